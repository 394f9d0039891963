"""Values as Google's messages hold them, made plain."""

import re
from datetime import UTC, datetime
from typing import Any

NEVER = datetime(1970, 1, 1, tzinfo=UTC)
"""In place of a time that must be there and is not."""


_TOLD_CHARACTERS = 4_000


def cut(text: str) -> str:
    """A message without its middle where that is long: it goes to terminals and into the store."""
    if len(text) <= _TOLD_CHARACTERS:
        return text
    half = _TOLD_CHARACTERS // 2
    return f"{text[:half]} ... {text[-half:]}"


def enum_name(value: Any, prefix: str = "") -> str:
    """Without ``prefix``; UNKNOWN for a number that this version of the API's client cannot name.

    By name, since Python 3.11 writes an IntEnum as its number.
    """
    name = getattr(value, "name", None)
    if name is None:
        return "UNKNOWN"
    if name.endswith("_UNSPECIFIED") or name == "STATUS_UNKNOWN":
        return "UNKNOWN"
    return str(name).removeprefix(prefix)


def moment(value: Any) -> datetime | None:
    """UTC, without nanoseconds; None for a time that was not set."""
    if value is None:
        return None
    return datetime.combine(value.date(), value.time(), UTC)


def rfc3339(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def region_of(name: str) -> str:
    """Of a resource name. ValueError when it holds no location."""
    found = re.search(r"(?:^|/)locations/([^/]+)", name)
    if found is None:
        raise ValueError(f"not the name of something in a region: {name!r}")
    return found[1]
