"""What a GraphQL server answers when it does not do what was asked, in its own words."""

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from resources.cloud.errors import CloudError, Denied, NotFound, Refused, Throttled, Unavailable

_LONGEST_TEXT = 300

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


def of_status(who: str, status: int, headers: Mapping[str, str], body: bytes) -> CloudError | None:
    """None for a 2xx."""
    if 200 <= status < 300:
        return None
    said = f"{who} answered {status}{_words(body)}"
    if status in (401, 403):
        return Denied(said)
    if status == 404:
        return NotFound(said)
    if status == 429:
        return Throttled(said, retry_after=_retry_after(headers))
    if status >= 500 or status < 400 or status == 408:
        return Unavailable(said)
    return Refused(said)


def of_errors(who: str, errors: Any, data: Any) -> CloudError:
    """Of the list ``errors`` beside ``data``. With half an answer nothing tells what was done."""
    first = errors[0] if isinstance(errors, list) and errors else errors
    extensions = first.get("extensions") if isinstance(first, Mapping) else None
    code = str(extensions.get("code") or "") if isinstance(extensions, Mapping) else ""
    message = str(first.get("message") or "") if isinstance(first, Mapping) else str(first)
    said = f"{who} says: {_short(message or code or 'an error without words')}"
    for kind, pattern in _KINDS:
        if pattern.search(f"{code} {message}"):
            return kind(said, reason=code)
    half = isinstance(data, Mapping) and any(value is not None for value in data.values())
    return Unavailable(said, reason=code) if half else Refused(said, reason=code)


def _words(body: bytes) -> str:
    """Of a JSON error, or of plain text; a gateway's page says nothing that its status does not."""
    try:
        read = json.loads(body)
    except (ValueError, RecursionError):
        read = body[: 4 * _LONGEST_TEXT].decode("utf-8", "replace").strip()
    while isinstance(read, (Mapping, list)):
        if isinstance(read, Mapping):
            read = read.get("errors") or read.get("error") or read.get("message")
        else:
            read = read[0] if read else None
    return f": {_short(read)}" if isinstance(read, str) and read[:1] not in ("", "<") else ""


def _short(text: str) -> str:
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _LONGEST_TEXT else f"{line[:_LONGEST_TEXT]}…"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds: of Retry-After, a number or a date, or of W&B's RateLimit-Reset."""
    value = headers.get("retry-after") or headers.get("ratelimit-reset") or ""
    try:
        seconds = float(value)
    except ValueError:
        try:
            at = parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
        seconds -= datetime.now(UTC).timestamp()
    return max(0.0, seconds) if math.isfinite(seconds) else None
