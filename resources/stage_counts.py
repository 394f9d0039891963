"""What the store counted for one stage of one workflow. The rates are arithmetic on the counts."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class StageCounts:
    """Counts of one stage over rows of the current workflow version and content hash.

    ``missing`` is subjects x steps less the current rows; ``stale`` counts live rows of another
    version or content hash. ``working_seconds`` is the union of the spans from first claim to last
    commit of the stage's runs. A rate is None where its denominator is zero.
    """

    partition: str
    first: int
    end: int
    subjects: int = 0
    steps: int = 0
    pending: int = 0
    running: int = 0
    completed: int = 0
    rejected: int = 0
    failed: int = 0
    skipped: int = 0
    missing: int = 0
    stale: int = 0
    working_seconds: float = 0.0
    finished_subjects: int = 0
    first_claim: datetime | None = None
    last_commit: datetime | None = None
    model_loads: int = 0

    @property
    def attempted(self) -> int:
        """Interactions that a model was asked for and that ended: skipped never counts."""
        return self.completed + self.rejected + self.failed

    @property
    def ended(self) -> int:
        return self.attempted + self.skipped

    @property
    def rejection_rate(self) -> float | None:
        return _ratio(self.rejected, self.attempted)

    @property
    def error_rate(self) -> float | None:
        return _ratio(self.failed, self.attempted)

    @property
    def success_rate(self) -> float | None:
        return _ratio(self.completed, self.attempted)

    @property
    def per_minute(self) -> float | None:
        """Finished interactions per minute of working time."""
        return _ratio(60 * self.attempted, self.working_seconds)

    @property
    def subjects_per_minute(self) -> float | None:
        return _ratio(60 * self.finished_subjects, self.working_seconds)

    @property
    def seconds_per_interaction(self) -> float | None:
        return _ratio(self.working_seconds, self.attempted)

    @property
    def seconds_per_subject(self) -> float | None:
        return _ratio(self.working_seconds, self.finished_subjects)


def _ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator > 0 else None
