"""One entry of Cloud Logging, whichever of the three payloads holds its text."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class LogEntry:
    """``at`` has a zone; ``writer`` is what numbers its lines: log, resource and task."""

    at: datetime
    insert_id: str
    writer: tuple[str, ...]
    text: str


def writer_of(
    log_name: str, resource: Mapping[str, str], labels: Mapping[str, str]
) -> tuple[str, ...]:
    """Two tasks of one execution write into the same log."""
    return (log_name, *_pairs(resource), *_pairs(labels))


def _pairs(labels: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in sorted(labels.items())]


def text_of(
    text: str | None, fields: Mapping[str, Any] | None, audit: Mapping[str, Any] | None
) -> str:
    """The message of a text, JSON or audit payload; of JSON without one the whole as JSON."""
    if text:
        return text
    if audit is not None:
        return str(audit.get("status", {}).get("message") or audit.get("methodName") or "")
    if fields is None:
        return ""
    message = fields.get("message")
    return message if isinstance(message, str) else json.dumps(fields, sort_keys=True, default=str)
