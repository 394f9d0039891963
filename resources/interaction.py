"""The nouns of an interaction that the store, the engines and the workflow language share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """Where an interaction stands. The last four are final."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    REJECTED = "rejected"
    FAILED = "failed"
    SKIPPED = "skipped"

    @property
    def final(self) -> bool:
        return self not in (Status.PENDING, Status.RUNNING)


class SkipKind(StrEnum):
    """Why an interaction was skipped: ``branch`` makes its names absent, ``ancestor`` skips what follows."""

    BRANCH = "branch"
    ANCESTOR = "ancestor"


class ErrorClass(StrEnum):
    """What went wrong with an interaction. ``CONTRACT``, ``TRUNCATED`` and ``REPETITION`` end as rejected."""

    TEMPLATE = "template"
    PROMPT_TOO_LONG = "prompt_too_long"
    CONTRACT = "contract"
    TRUNCATED = "truncated"
    REPETITION = "repetition"
    OOM = "oom"
    ENGINE = "engine"
    POISON = "poison"
    TIMEOUT = "timeout"
    CONNECTION = "connection"
    RATE_LIMIT = "rate_limit"
    CANCELLED = "cancelled"

    @property
    def final_status(self) -> Status:
        return Status.REJECTED if self in _REJECTING else Status.FAILED

    @property
    def retryable(self) -> bool:
        return self not in _NEVER_RETRIED


_REJECTING = frozenset({ErrorClass.CONTRACT, ErrorClass.TRUNCATED, ErrorClass.REPETITION})
_NEVER_RETRIED = frozenset({ErrorClass.TEMPLATE, ErrorClass.PROMPT_TOO_LONG, ErrorClass.POISON})


@dataclass(frozen=True, slots=True)
class StepState:
    """One step of one subject as its relatives see it."""

    status: Status
    ready: bool = False
    output: str | None = None
    parsed: Any = None
    skip_kind: SkipKind | None = None


@dataclass(frozen=True, slots=True)
class Transition:
    """What a pending step becomes once its relatives ended: ready to run, or skipped with a reason."""

    ready: bool = False
    skip_kind: SkipKind | None = None
    skip_reason: str | None = None


SUSPECT_LOSSES = 3
"""Workers that may be lost with an interaction before it is tried alone, after all others."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to work on one interaction until the lease ends; results carry ``token``."""

    interaction_id: int
    token: int
    step: str
    model: str
    subject_key: str
    ordinal: int
    attempt: int
    """0 for the first attempt."""
    fields: Mapping[str, Any]
    """The subject's JSON object."""
    ancestors: Mapping[str, StepState]
    """Every ancestor step's state, by step name."""
    renewals: int = 0
    """How often ``forge retry`` has asked for another answer than the rejected one."""
    losses: int = 0
    """Workers that were lost while they had it, since one last came back with an answer."""


@dataclass(frozen=True, slots=True)
class Result:
    """The end of one attempt.

    ``status`` is final, or ``PENDING`` to try again (not before ``retry_in`` seconds).
    """

    interaction_id: int
    token: int
    status: Status
    prompt: str | None = None
    system: str | None = None
    output: str | None = None
    parsed: Any = None
    error_class: ErrorClass | None = None
    error_message: str | None = None
    retry_in: float | None = None
    prompt_tokens: int = 0
    output_tokens: int = 0
    provenance: Mapping[str, Any] = field(default_factory=dict)
