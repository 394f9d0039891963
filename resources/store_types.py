"""What the interaction store takes and gives back."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from resources.interaction import ErrorClass, SkipKind, Status, StepState, Transition

Advance = Callable[[Mapping[str, StepState]], Mapping[str, Transition]]
"""All steps of one subject -> what becomes of its pending steps that are not ready yet."""


@dataclass(frozen=True, slots=True)
class StageScope:
    """One workflow over the subjects ``[first, end)`` of a dataset: what a stage works on."""

    dataset: str
    workflow: str
    partition: str
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A step as the workflow has it now. ``version`` covers the step and all its ancestors."""

    name: str
    version: str
    model: str
    root: bool


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What one reading of a source changed. ``absent``: subjects that the source no longer has.

    ``duplicates``: records whose key came before in this reading, ``first_duplicate`` the first such
    key, which is there to be told and is no part of what changed.
    """

    inserted: int = 0
    changed: int = 0
    unchanged: int = 0
    duplicates: int = 0
    absent: int = 0
    total: int = 0
    superseded: int = 0
    first_duplicate: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class PlanReport:
    created: int = 0
    superseded: int = 0
    newly_ready: int = 0
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class CommitReport:
    """What became of a batch of results.

    ``committed`` counts every accepted result, ``retried`` those of them that go back to pending;
    ``refused`` holds the interaction ids whose token was stale. ``skipped`` and ``newly_ready``
    count the relatives that moved on.
    """

    committed: int = 0
    retried: int = 0
    refused: tuple[int, ...] = ()
    skipped: int = 0
    newly_ready: int = 0


@dataclass(frozen=True, slots=True)
class OpenWork:
    """What is left to do; ``retry_in_seconds``, ``lease_in_seconds``: by the database's clock."""

    ready: int = 0
    waiting_retry: int = 0
    retry_in_seconds: float | None = None
    running_here: int = 0
    running_elsewhere: int = 0
    lease_in_seconds: float | None = None
    """Until the first lease of another run ends; negative when one has already ended."""
    pending_not_ready: int = 0

    @property
    def total(self) -> int:
        running = self.running_here + self.running_elsewhere
        return self.ready + self.waiting_retry + running + self.pending_not_ready


@dataclass(frozen=True, slots=True)
class SlowAnswers:
    """Of one step: how many answers were looked at, and the 99th percentile of their seconds from
    claim to commit."""

    seen: int
    p99: float


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run of ours on one stage. ``state``: running, finished, cut_short, failed or dead."""

    run_id: str
    dataset: str
    workflow: str
    partition: str
    pid: int
    host: str
    registered_at: datetime
    first_claim: datetime | None
    last_commit: datetime | None
    ended_at: datetime | None
    state: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class ModelLoad:
    run_id: str
    model: str
    tier: str
    seconds: float
    bytes: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Residency:
    """One stay of a model in an engine: what was asked of it, what it took, what had been predicted.

    ``definition`` is the hash of the model's definition, ``device`` the hardware's name. Seconds:
    ``start_seconds`` until the engine was ready, ``busy_seconds`` from then to its last answer.
    """

    run_id: str
    model: str
    definition: str
    engine: str
    device: str
    start_seconds: float
    busy_seconds: float
    interactions: int
    """Answers, retries included."""
    prompt_tokens: int
    output_tokens: int
    reason: str
    """Why this engine."""
    steps: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Step name -> answers, prompt tokens, output tokens."""
    memory_predicted: int | None = None
    memory_seen: int | None = None
    """Bytes."""
    predicted_seconds: float | None = None

    @property
    def seconds(self) -> float:
        return self.start_seconds + self.busy_seconds


@dataclass(frozen=True, slots=True)
class StepCounts:
    """Live rows of one step in a stage; seconds per interaction that a model answered."""

    step: str
    model: str
    pending: int = 0
    running: int = 0
    completed: int = 0
    rejected: int = 0
    failed: int = 0
    skipped: int = 0
    p50_seconds: float | None = None
    p95_seconds: float | None = None
    max_seconds: float | None = None
    prompt_tokens: int = 0
    output_tokens: int = 0

    @property
    def attempted(self) -> int:
        return self.completed + self.rejected + self.failed


@dataclass(frozen=True, slots=True)
class ModelCounts:
    """Live rows of one model in a stage; seconds per interaction that it answered."""

    model: str
    pending: int = 0
    running: int = 0
    completed: int = 0
    rejected: int = 0
    failed: int = 0
    skipped: int = 0
    p50_seconds: float | None = None
    p95_seconds: float | None = None
    max_seconds: float | None = None
    prompt_tokens: int = 0
    output_tokens: int = 0

    @property
    def attempted(self) -> int:
        return self.completed + self.rejected + self.failed


@dataclass(frozen=True, slots=True)
class Example:
    interaction_id: int
    subject_key: str
    step: str
    error_class: ErrorClass | None
    reason: str
    output_excerpt: str | None


@dataclass(frozen=True, slots=True)
class FailureClass:
    """Rejected or failed interactions of one class; ``message`` is one of theirs, in full."""

    error_class: ErrorClass
    status: Status
    count: int
    message: str
    subject_key: str
    step: str


@dataclass(frozen=True, slots=True)
class InteractionEvent:
    id: int
    at: datetime
    kind: str
    run_id: str | None
    token: int | None
    attempt: int | None
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Interaction:
    """One row of ``forge.interactions`` with its subject's key, its stage and its events."""

    id: int
    subject_id: int
    subject_key: str
    dataset: str
    workflow: str
    partition: str | None
    ordinal: int
    step: str
    model: str
    version: str
    content_hash: str
    status: Status
    ready: bool
    attempts: int
    claims: int
    run_id: str | None
    token: int | None
    lease_until: datetime | None
    retry_at: datetime | None
    prompt: str | None
    system: str | None
    output: str | None
    parsed: Any
    error_class: ErrorClass | None
    error_message: str | None
    skip_kind: SkipKind | None
    skip_reason: str | None
    prompt_tokens: int
    output_tokens: int
    seconds: float | None
    provenance: Mapping[str, Any]
    created_at: datetime
    claimed_at: datetime | None
    finished_at: datetime | None
    superseded_at: datetime | None
    events: tuple[InteractionEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class SubjectVersion:
    """A text that the subject had before; its interactions carry the same content hash."""

    content_hash: str
    fields: Mapping[str, Any]
    replaced_at: datetime


@dataclass(frozen=True, slots=True)
class SubjectTrace:
    subject_id: int
    dataset: str
    key: str
    ordinal: int
    fields: Mapping[str, Any]
    content_hash: str
    created_at: datetime
    updated_at: datetime
    absent_since: datetime | None
    earlier: tuple[SubjectVersion, ...]
    interactions: tuple[Interaction, ...]


@dataclass(frozen=True, slots=True)
class ResourceSample:
    """One reading of the machine. Memory in bytes; ``gpus`` one JSON object a device.

    ``at`` None takes the database's clock.
    """

    run_id: str
    memory_total: int
    memory_available: int
    connections_total: int
    connections_active: int
    connections_idle: int
    connections_max: int
    gpus: tuple[Mapping[str, Any], ...] = field(default=())
    at: datetime | None = None
