"""A subject as a source gives it, or the reason why a record cannot be one."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_KEY_BYTES = 1024  # keys are indexed; PostgreSQL refuses index rows over about 2,700 bytes
MAX_NAME = 100  # characters of what the user names: datasets, workflows, steps, stages, models
MAX_DEPTH = 100  # far below the nesting at which Python or PostgreSQL runs out of stack
DEFAULT_KEY_FIELDS = ("key", "id")


@dataclass(frozen=True, slots=True)
class SubjectRecord:
    """A usable record: a stable key, the JSON object, the sha256 of its canonical JSON."""

    key: str
    fields: dict[str, Any]
    content_hash: str


@dataclass(frozen=True, slots=True)
class BadRecord:
    """One record that cannot be a subject; it is reported, counted and passed over."""

    where: str
    """``file:line`` (``file:row`` for Parquet, ``table:row`` for SQL), 1-based."""
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


def name_text(value: str) -> str:
    """The name unchanged. ValueError when it is too long for an index or cannot be stored."""
    if len(value) > MAX_NAME:
        raise ValueError(f"has {len(value):,} characters; a name has at most {MAX_NAME}")
    if "\0" in value:
        raise ValueError("holds a NUL character; remove it")
    return value


class RecordError(Exception):
    """Why a value cannot be a subject."""


def canonical_json(fields: Mapping[str, Any]) -> str:
    """The one JSON text of an object: sorted names, no spaces, no needless escapes."""
    return json.dumps(
        fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def subject_record(fields: Any, key_field: str | None, max_bytes: int) -> SubjectRecord:
    """The record of a parsed JSON value.

    ``key_field`` None takes ``key``, then ``id``, then the content hash. RecordError says why the
    value is unusable: not an object, unsuitable key, text or numbers that PostgreSQL's jsonb
    refuses, more than ``max_bytes`` bytes as canonical JSON.
    """
    if not isinstance(fields, dict):
        raise RecordError(f"not a JSON object but {_json_type(fields)}")
    _check_storable(fields)
    encoded = canonical_json(fields).encode()
    if len(encoded) > max_bytes:
        raise RecordError(f"{len(encoded):,} bytes, over max_record_bytes ({max_bytes:,})")
    content_hash = hashlib.sha256(encoded).hexdigest()
    if key_field is None:
        key_field = next((name for name in DEFAULT_KEY_FIELDS if name in fields), None)
    key = content_hash if key_field is None else _key(fields, key_field)
    return SubjectRecord(key=key, fields=fields, content_hash=content_hash)


def _key(fields: Mapping[str, Any], name: str) -> str:
    if name not in fields:
        raise RecordError(f"key field {name!r} is missing")
    value = fields[name]
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise RecordError(
            f"key field {name!r} must be a string or a number, not {_json_type(value)}"
        )
    text = str(value)
    if not text.strip():
        raise RecordError(f"key field {name!r} is empty")
    if len(text.encode()) > MAX_KEY_BYTES:
        raise RecordError(f"key field {name!r} is longer than {MAX_KEY_BYTES:,} bytes")
    return text


def _check_storable(fields: dict[Any, Any]) -> None:
    """Walk without recursion: the input decides how deep it nests."""
    waiting: list[tuple[Any, int]] = [(fields, 1)]
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, dict | list):
            if depth > MAX_DEPTH:
                raise RecordError(f"nested deeper than {MAX_DEPTH} levels")
            children = value.items() if isinstance(value, dict) else ((None, v) for v in value)
            for name, child in children:
                if name is not None:
                    _check_text(name)
                waiting.append((child, depth + 1))
        elif isinstance(value, str):
            _check_text(value)
        elif isinstance(value, float) and not math.isfinite(value):
            raise RecordError("holds NaN or an infinite number, which is not JSON")


def _check_text(text: Any) -> None:
    if not isinstance(text, str):
        raise RecordError(f"field name {text!r} is not a string")
    if "\0" in text:
        raise RecordError("holds a NUL character (\\u0000), which PostgreSQL cannot store")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RecordError("holds half of a surrogate pair, which is not valid Unicode") from None


def _json_type(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, int | float):
        return "a number"
    return "an array" if isinstance(value, list) else "an object"
