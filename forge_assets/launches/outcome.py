"""How a launch came out: what was seen of its job, or why none was."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from resources.launch_state import LaunchState, Outcome

SUBMITTED: frozenset[Outcome] = frozenset({"running", "pending", "queued"})
GOOD: frozenset[Outcome] = SUBMITTED | {"succeeded"}

OF_STATE: dict[str, Outcome] = {
    "QUEUED": "queued",
    "PENDING": "pending",
    "RUNNING": "running",
    # Of a job that runs.
    "UPDATING": "running",
    "SUCCEEDED": "succeeded",
    "PARTIALLY_SUCCEEDED": "partially_succeeded",
    "FAILED": "failed",
    "CANCELLING": "cancelled",
    "CANCELLED": "cancelled",
    "EXPIRED": "expired",
}
"""Vertex AI's states; any other is none that we know, and no success."""

MONITOR = "forge monitor"
TIMEOUT_REASONS = (
    "the submission takes longer than usual",
    "the runner met an error",
    "no W&B Launch agent has picked the job up",
)


@dataclass(frozen=True, slots=True)
class Hop:
    """One station on the way and what was last known of it; ``name`` "" before it has one."""

    station: Literal["queue item", "runner", "job", "W&B run"]
    name: str
    state: str


@dataclass(frozen=True, slots=True)
class LaunchResult:
    """``reason``: one sentence for anything but a submission, in the API's own words where it gave
    some. ``age``: of the job when it was found, in seconds; ``seconds``: of the launch."""

    launch: UUID
    job: str
    path: Literal["direct", "queue"]
    project: str
    region: str
    outcome: Outcome
    seconds: float
    job_name: str | None = None
    job_state: str | None = None
    age: float | None = None
    queue_item: str | None = None
    execution: str | None = None
    wandb_run: str | None = None
    reason: str = ""
    error_class: str = ""
    advice: Sequence[str] = ()
    hops: Sequence[Hop] = ()
    duplicates: Sequence[str] = ()
    left: str = ""
    """What may still become a job, though the launch is reported as failed."""

    @property
    def submitted(self) -> bool:
        return self.outcome in SUBMITTED

    @property
    def exit_code(self) -> int:
        return 0 if self.outcome in GOOD else 1

    @property
    def state(self) -> LaunchState:
        """As the store keeps it: what may still end otherwise has not ended."""
        if self.left:
            return "unknown"
        return "running" if self.job_state == "CANCELLING" else self.outcome

    def as_json(self) -> dict[str, Any]:
        return {
            "launch": str(self.launch),
            "job": self.job,
            "path": self.path,
            "project": self.project,
            "region": self.region,
            "outcome": self.outcome,
            "submitted": self.submitted,
            "job_name": self.job_name,
            "job_state": self.job_state,
            "age_seconds": None if self.age is None else round(self.age, 1),
            "queue_item": self.queue_item,
            "execution": self.execution,
            "wandb_run": self.wandb_run,
            "reason": self.reason or None,
            "error_class": self.error_class or None,
            "advice": list(self.advice),
            "hops": [
                {"station": hop.station, "name": hop.name, "state": hop.state} for hop in self.hops
            ],
            "duplicates": list(self.duplicates),
            "left": self.left or None,
            "seconds": round(self.seconds, 1),
            "monitor": MONITOR,
        }

    @property
    def sentence(self) -> str:
        """Why it is no success; "" for one."""
        match self.outcome:
            case "running" | "pending" | "queued" | "succeeded":
                return ""
            case "rejected":
                return f"the job was rejected: {self.reason}"
            case "runner_failed":
                return f"the runner failed: {self.reason}"
            case "no_agent":
                return f"no agent takes the job from the queue: {self.reason}"
            case "timeout":
                return f"no job was seen within {self.seconds:.0f} s"
            case "unknown":
                return f"the outcome is not known: {self.reason}"
        return f"the job was first seen {self.job_state}: {self.reason}"
