"""The gate of a stage: open, wait for the stage before, or refuse with one sentence. Pure."""

from dataclasses import dataclass

from forge_assets.config import Thresholds
from forge_assets.stage_checks import StageVerdict, Verdict, judge_stage, open_work
from resources.stage_counts import StageCounts


@dataclass(frozen=True, slots=True)
class RunLiveness:
    """What is known of the runs of the stage before."""

    working: str | None = None
    """Id of a run whose lock is held: a living process works on it."""
    queued: str | None = None
    """Id of a run that is queued."""
    promised: str | None = None
    """Id of a backfill that has yet to submit a run of it."""
    daemon_alive: bool = False
    """A Dagster daemon's heartbeat is fresh: somebody will start what is queued."""
    asked_for: bool = False
    """Any run of it is known, of whatever end."""


@dataclass(frozen=True, slots=True)
class Open:
    """The stage may run."""


@dataclass(frozen=True, slots=True)
class Wait:
    """The stage before may pass yet. ``for_queued``: the id of its run, which needs a slot first."""

    reason: str
    for_queued: str | None = None


@dataclass(frozen=True, slots=True)
class Refuse:
    """The answer is no until somebody acts."""

    reason: str


Decision = Open | Wait | Refuse


def evaluate_gate(
    counts: StageCounts,
    previous: StageCounts | None,
    runs: RunLiveness,
    thresholds: Thresholds,
    option: str = "",
) -> Decision:
    """Whether a stage may run. ``counts`` are its own, ``previous`` and ``runs`` of the one before.

    ``option``: what the commands it names need besides, such as `--workflow review `.
    The first stage has no previous. The wave asks again at its start, so it must stay pure.
    """
    stage = counts.partition
    if not counts.subjects:
        return Refuse(f"stage {stage} holds no subjects yet")
    if previous is None:
        return Open()
    judged = judge_stage(previous, thresholds)
    if judged.passed:
        return Open()
    before = previous.partition
    if judged.verdict is Verdict.EMPTY:
        return Refuse(f"{stage} refused: stage {before} before it holds no subjects yet")
    if runs.working is not None:
        return Wait(f"{stage} waits for {before}, which run {runs.working} is working on")
    if runs.queued is not None and runs.daemon_alive:
        reason = f"{stage} waits for {before}, whose run {runs.queued} is queued"
        return Wait(reason, for_queued=runs.queued)
    if runs.promised is not None and runs.daemon_alive:
        return Wait(f"{stage} waits for {before}, which backfill {runs.promised} is about to start")
    return Refuse(f"{stage} refused: {_why(previous, judged, runs, option)}")


def _why(previous: StageCounts, judged: StageVerdict, runs: RunLiveness, option: str) -> str:
    """Why the stage before does not open the gate, and the command to go on with."""
    before = previous.partition
    if judged.verdict is Verdict.FAILED:
        return f"{before} failed: {'; '.join(judged.reasons)}; {_remedy(before, judged, option)}"
    run = f"forge run {option}--stage {before}"
    if runs.queued is not None:
        return (
            f"run {runs.queued} of {before} is queued but no Dagster daemon is alive to start it; "
            f"start one with `dagster dev`, or run `{run}`"
        )
    untouched = not (previous.ended or previous.running)
    if untouched and not runs.asked_for:
        return f"{before} has not run; run {before} first: `{run}`"
    if previous.stale and not (previous.pending or previous.running or previous.missing):
        return f"{before} is stale: {open_work(previous)} after a change; run it again: `{run}`"
    return f"{before} is incomplete: {'; '.join(judged.reasons)}; finish it: `{run}`"


_RETRIES = (
    ("rejection_rate", "rejected"),
    ("error_rate", "failed"),
    ("throughput", "completed"),
)


def _remedy(before: str, judged: StageVerdict, option: str) -> str:
    """Look first; then retry what the failed check counts; what was slow, all of it."""
    look = f"look with `forge report {option}--stage {before}`"
    retries = [
        f"`forge retry {option}--stage {before} --status {status}`"
        for check, status in _RETRIES
        if check in judged.failed_checks
    ]
    return f"{look}, then {' and '.join(retries)}" if retries else look
