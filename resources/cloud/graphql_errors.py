"""What a GraphQL server answers when it does not do what was asked, in its own words."""

import re
from collections.abc import Mapping
from typing import Any

from resources.cloud.errors import CloudError, Denied, NotFound, Refused, Throttled, Unavailable
from resources.cloud.rest import short

# The first that is found in the error's code or text.
_KINDS: tuple[tuple[type[CloudError], re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern, re.IGNORECASE))
    for kind, pattern in (
        (Refused, r"cannot query field|unknown (argument|type|field)|syntax error|variable \"?\$"),
        (Throttled, r"rate.?limit|too many requests"),
        (
            Denied,
            r"permission|denied|unauthor|not authorized|unauthenticated|forbidden|api.?key|"
            r"not logged in|must be logged in",
        ),
        (
            Unavailable,
            r"\binternal\b|internal.?(server )?error|timed? ?out|deadline|unavailable|try again|"
            r"temporar|connection (refused|reset|closed)",
        ),
        (NotFound, r"not.?found|could not find|does not exist|no such"),
    )
)


def of_errors(who: str, errors: Any, data: Any) -> CloudError:
    """Of the list ``errors`` beside ``data``. With half an answer nothing tells what was done."""
    first = errors[0] if isinstance(errors, list) and errors else errors
    extensions = first.get("extensions") if isinstance(first, Mapping) else None
    code = str(extensions.get("code") or "") if isinstance(extensions, Mapping) else ""
    message = str(first.get("message") or "") if isinstance(first, Mapping) else str(first)
    said = f"{who} says: {short(message or code or 'an error without words')}"
    for kind, pattern in _KINDS:
        if pattern.search(f"{code} {message}"):
            return kind(said, reason=code)
    half = isinstance(data, Mapping) and any(value is not None for value in data.values())
    return Unavailable(said, reason=code) if half else Refused(said, reason=code)
