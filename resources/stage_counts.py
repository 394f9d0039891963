"""What the store counted for one stage of one workflow. The rates are arithmetic on the counts."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class StageCounts:
    """Counts of one stage over rows of the current workflow version and content hash.

    ``missing`` is subjects x steps less the current rows; ``stale`` counts live rows of another
    version or content hash. ``working_seconds`` is the stretch, from first claim to last commit of
    runs that overlap, that made the most of the results that stand; ``worked`` are those. To make a
    few again, models to load, thus does not change the stage's speed. A rate is None where its
    denominator is zero.
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
    worked: int = 0
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
    def worked_subjects(self) -> float:
        """The finished subjects' share in ``worked``."""
        return self.finished_subjects * self.worked / self.attempted if self.attempted else 0.0

    @property
    def made(self) -> str:
        """``31``, or ``28 of 31`` where not all attempted were made in the working seconds, or
        more where a run also made other stages' results."""
        return _of(self.worked, self.attempted)

    @property
    def made_subjects(self) -> str:
        return _of(round(self.worked_subjects), self.finished_subjects)

    @property
    def per_minute(self) -> float | None:
        """Finished interactions per minute of working time."""
        return _ratio(60 * self.worked, self.working_seconds)

    @property
    def subjects_per_minute(self) -> float | None:
        return _ratio(60 * self.worked_subjects, self.working_seconds)

    @property
    def seconds_per_interaction(self) -> float | None:
        return _ratio(self.working_seconds, self.worked)

    @property
    def seconds_per_subject(self) -> float | None:
        return _ratio(self.working_seconds, self.worked_subjects)


def _of(part: int, whole: int) -> str:
    return f"{part} of {whole}" if part < whole else str(part)


def _ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator > 0 else None
