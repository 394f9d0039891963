"""The interaction store: subjects, their interactions, leases and results, and reading them.

Composed of its parts by noun. Every public method is one transaction and safe to call again;
``store_retries.with_retries`` does so when the database was away for a while.
"""

from resources.claim_store import ClaimStore
from resources.commit_store import CommitStore
from resources.residency_store import ResidencyStore
from resources.retention import Removed, RetentionStore
from resources.run_registry import EndState, RunRegistry
from resources.sample_store import SampleStore
from resources.stage_counts import StageCounts
from resources.stage_plan import StagePlanner
from resources.stage_reads import StageReads
from resources.store_retries import with_retries
from resources.store_types import (
    Advance,
    CommitReport,
    Example,
    FailureClass,
    IngestReport,
    Interaction,
    InteractionEvent,
    ModelCounts,
    ModelLoad,
    OpenWork,
    PlannedStep,
    PlanReport,
    Residency,
    ResourceSample,
    RunRow,
    SlowAnswers,
    StageScope,
    StepCounts,
    SubjectTrace,
    SubjectVersion,
)
from resources.subject_record import SubjectRecord
from resources.subject_store import SubjectStore
from resources.tally_store import TallyStore
from resources.trace_reads import TraceReads


class InteractionStore(
    SubjectStore,
    StagePlanner,
    ClaimStore,
    CommitStore,
    RunRegistry,
    StageReads,
    TraceReads,
    SampleStore,
    ResidencyStore,
    TallyStore,
    RetentionStore,
):
    """All of it, on one engine whose schema is migrated. Safe to use from several threads."""


__all__ = [
    "Advance",
    "CommitReport",
    "EndState",
    "Example",
    "FailureClass",
    "IngestReport",
    "Interaction",
    "InteractionEvent",
    "InteractionStore",
    "ModelCounts",
    "ModelLoad",
    "OpenWork",
    "PlanReport",
    "PlannedStep",
    "Removed",
    "Residency",
    "ResourceSample",
    "RunRow",
    "SlowAnswers",
    "StageCounts",
    "StageScope",
    "StepCounts",
    "SubjectRecord",
    "SubjectTrace",
    "SubjectVersion",
    "with_retries",
]
