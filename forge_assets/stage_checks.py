"""The checks of a stage: arithmetic on its counts. Pure.

A rate is rejected or failed over attempted = completed + rejected + failed; skipped never counts.
Zero of zero proves nothing: a stage with nothing attempted fails its checks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from forge_assets.config import Thresholds
from resources.stage_counts import StageCounts

NOTHING = "nothing attempted"


class Counts(Protocol):
    """The six counts of a step, a model or a stage."""

    @property
    def pending(self) -> int: ...
    @property
    def running(self) -> int: ...
    @property
    def completed(self) -> int: ...
    @property
    def rejected(self) -> int: ...
    @property
    def failed(self) -> int: ...
    @property
    def skipped(self) -> int: ...


@dataclass(frozen=True, slots=True)
class CheckOutcome:
    """One check: what it found, in a sentence with counts and limit, and the same as data."""

    name: str
    passed: bool
    description: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    blocking: bool = True
    """A check that is not blocking warns and never fails a stage."""


class Verdict(StrEnum):
    """Where a stage stands."""

    PASSED = "passed"
    FAILED = "failed"
    INCOMPLETE = "incomplete"
    EMPTY = "empty"


@dataclass(frozen=True, slots=True)
class StageVerdict:
    """``reasons``: why the stage has not passed, or what warns although it has."""

    verdict: Verdict
    reasons: tuple[str, ...] = ()
    failed_checks: tuple[str, ...] = ()
    """Names of the blocking checks that failed."""

    @property
    def passed(self) -> bool:
        return self.verdict is Verdict.PASSED


def check_rejection_rate(counts: StageCounts, thresholds: Thresholds) -> CheckOutcome:
    """Rejected / attempted is below the limit."""
    return _upper_bound("rejection_rate", "rejected", counts, thresholds.rejection_rate)


def check_error_rate(counts: StageCounts, thresholds: Thresholds) -> CheckOutcome:
    """Failed / attempted is below the limit."""
    return _upper_bound("error_rate", "failed", counts, thresholds.error_rate)


def check_success_rate(counts: StageCounts, thresholds: Thresholds) -> CheckOutcome:
    """Completed / attempted is above the limit; only warns."""
    attempted, limit = counts.attempted, thresholds.success_rate
    data = {"completed": counts.completed, "attempted": attempted, "limit": limit}
    if not attempted:
        return CheckOutcome("success_rate", False, NOTHING, data, blocking=False)
    rate = counts.completed / attempted
    text = f"{share(rate)} ({counts.completed} of {attempted}), target above {_percent(limit)}"
    return CheckOutcome("success_rate", rate > limit, text, data | {"rate": rate}, blocking=False)


def check_throughput(counts: StageCounts, thresholds: Thresholds) -> CheckOutcome:
    """Finished interactions, or subjects, per minute of working time reach the minimum."""
    unit, limit = thresholds.per_minute_counts, thresholds.per_minute
    by_subjects = unit == "subjects"
    finished = counts.finished_subjects if by_subjects else counts.attempted
    rate = counts.subjects_per_minute if by_subjects else counts.per_minute
    data: dict[str, Any] = {
        "counts": unit,
        "finished": finished,
        "interactions_in_working_seconds": counts.worked,
        "working_seconds": round(counts.working_seconds, 3),
        "minimum": limit,
        "interactions_per_minute": counts.per_minute,
        "subjects_per_minute": counts.subjects_per_minute,
    }
    if not counts.attempted:
        return CheckOutcome("throughput", False, NOTHING, data)
    if rate is None:
        return CheckOutcome("throughput", False, "no working time was recorded", data)
    made = counts.made_subjects if by_subjects else counts.made
    text = (
        f"{rate:.1f} {unit} a minute ({made} in {counts.working_seconds:.1f} s of work), "
        f"at least {limit:g}"
    )
    return CheckOutcome("throughput", rate >= limit, text, data | {"per_minute": rate})


def check_nothing_lost(counts: StageCounts, thresholds: Thresholds) -> CheckOutcome:
    """Subjects x steps = completed + rejected + failed + skipped, all of the current version."""
    expected = counts.subjects * counts.steps
    data = {
        "expected": expected,
        "subjects": counts.subjects,
        "steps": counts.steps,
        "ended": counts.ended,
        "pending": counts.pending,
        "running": counts.running,
        "missing": counts.missing,
        "stale": counts.stale,
    }
    product = f"{counts.subjects} subjects x {counts.steps} steps = {expected}"
    if not expected:
        return CheckOutcome("nothing_lost", False, f"nothing attempted: {product}", data)
    open_counts = open_work(counts)
    passed = expected == counts.ended and not open_counts
    text = f"{product} interactions, {counts.ended} ended ({_ended(counts)})"
    if open_counts:
        text += f"; {open_counts}"
    return CheckOutcome("nothing_lost", passed, text, data)


def check_stage(counts: StageCounts, thresholds: Thresholds) -> tuple[CheckOutcome, ...]:
    """All checks of a stage, the blocking ones first."""
    return (
        check_rejection_rate(counts, thresholds),
        check_error_rate(counts, thresholds),
        check_throughput(counts, thresholds),
        check_nothing_lost(counts, thresholds),
        check_success_rate(counts, thresholds),
    )


def check_step(counts: Counts, thresholds: Thresholds) -> tuple[CheckOutcome, ...]:
    """rejection_rate and error_rate of one step: shown, not blocking.

    A step whose interactions were all skipped passes with 'nothing attempted'.
    """
    bounds = (
        ("rejection_rate", "rejected", thresholds.rejection_rate),
        ("error_rate", "failed", thresholds.error_rate),
    )
    return tuple(_step_bound(name, noun, counts, limit) for name, noun, limit in bounds)


def judge_stage(counts: StageCounts, thresholds: Thresholds) -> StageVerdict:
    """Empty without subjects, incomplete with work open, else by the blocking checks."""
    if not counts.subjects:
        return StageVerdict(Verdict.EMPTY, ("holds no subjects yet",))
    if open_counts := open_work(counts):
        expected = counts.subjects * counts.steps
        return StageVerdict(Verdict.INCOMPLETE, (f"{open_counts} of {expected} interactions",))
    bad = [outcome for outcome in check_stage(counts, thresholds) if not outcome.passed]
    reasons = tuple(
        f"{outcome.name} {outcome.description}{'' if outcome.blocking else ' (a warning)'}"
        for outcome in bad
    )
    failed = tuple(outcome.name for outcome in bad if outcome.blocking)
    return StageVerdict(Verdict.FAILED if failed else Verdict.PASSED, reasons, failed)


def open_work(counts: StageCounts) -> str:
    """``3 pending, 1 missing``; empty when everything ended and is current."""
    named = ("pending", "running", "missing", "stale")
    return ", ".join(f"{getattr(counts, name)} {name}" for name in named if getattr(counts, name))


def share(rate: float) -> str:
    """0.22 -> ``22.0 %``."""
    return f"{100 * rate:.1f} %"


def _upper_bound(name: str, noun: str, counts: Counts, limit: float) -> CheckOutcome:
    """The share of one kind of end must stay below the limit."""
    bad: int = getattr(counts, noun)
    attempted = counts.completed + counts.rejected + counts.failed
    data = {noun: bad, "attempted": attempted, "limit": limit}
    if not attempted:
        return CheckOutcome(name, False, NOTHING, data)
    rate = bad / attempted
    text = f"{share(rate)} ({bad} of {attempted}), limit {_percent(limit)}"
    return CheckOutcome(name, rate < limit, text, data | {"rate": rate})


def _step_bound(name: str, noun: str, counts: Counts, limit: float) -> CheckOutcome:
    outcome = _upper_bound(name, noun, counts, limit)
    all_skipped = counts.skipped > 0 and not (counts.pending or counts.running)
    passed = all_skipped if not outcome.metadata["attempted"] else outcome.passed
    return CheckOutcome(name, passed, outcome.description, outcome.metadata, blocking=False)


def _percent(limit: float) -> str:
    return f"{100 * limit:.4g} %"


def _ended(counts: StageCounts) -> str:
    return (
        f"{counts.completed} completed, {counts.rejected} rejected, "
        f"{counts.failed} failed, {counts.skipped} skipped"
    )
