"""One reason: what was told, by whom, and the lines around it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from forge_assets.launches.catalogue import Cause, entries
from forge_assets.launches.log_causes import is_summary

NOTHING = "nothing"
LOG, AUDIT_LOG, RUNNER_REPORT = "log", "audit log", "runner report"


@dataclass(frozen=True)
class Reason:
    """``source``: "job error", "job state", "condition", "task", "build", "runner report", "log",
    "audit log" or "nothing". ``text``: one sentence or line, in the API's own words where it has any.

    ``context``: lines of the log around the cause, its last ones when it tells none. ``logs``: how
    much of the log was read, "" for all or when none was asked for; ``is_read``: False when the log,
    or what else was asked for, could not be read at all, so that a later look may tell more.
    ``own_advice``: of whoever told it, in place of the catalogue's.
    """

    source: str
    text: str
    cause: Cause | None = None
    context: tuple[str, ...] = ()
    logs: str = ""
    is_read: bool = True
    own_advice: str = ""

    @property
    def advice(self) -> str:
        return self.own_advice or (self.cause.entry.advice if self.cause else "")

    @property
    def is_found(self) -> bool:
        """Whether it tells why, not only that."""
        if self.source == NOTHING:
            return False
        return self.cause is None or not is_summary(self.cause)

    def as_json(self) -> dict[str, Any]:
        cause = self.cause
        return {
            "source": self.source,
            "text": self.text,
            "cause": {"id": cause.entry.id, "line": cause.line} if cause else None,
            "context": list(self.context),
            "logs": self.logs,
            "is_read": self.is_read,
            "own_advice": self.own_advice,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Reason":
        told = content["cause"]
        cause = known_cause(told["id"], told["line"]) if told else None
        return cls(
            content["source"],
            content["text"],
            cause,
            tuple(content["context"]),
            content["logs"],
            # Kept ones may be older than these.
            content.get("is_read", True),
            content.get("own_advice", ""),
        )


def known_cause(entry_id: str, line: str) -> Cause | None:
    """None for an id that the catalogue does not have, or no longer."""
    for entry in entries():
        if entry.id == entry_id:
            return Cause(entry, line)
    return None
