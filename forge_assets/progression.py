"""Which stage of a workflow is next: for whoever rolls it out without a person. Pure."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from forge_assets.config import Thresholds
from forge_assets.stage_checks import Verdict, judge_stage
from resources.stage_counts import StageCounts


@dataclass(frozen=True, slots=True)
class Next:
    """A stage to run. ``run_key``: the same until something about it, or the one before, changes.

    It does not know what was made and then taken back whole: whoever asks adds the stage's last commit.
    """

    stage: str
    run_key: str
    reason: str


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing to do now. ``reason``: one sentence."""

    reason: str


def next_stage(
    workflow: str,
    versions: Mapping[str, str],
    stages: Sequence[StageCounts],
    thresholds: Thresholds,
) -> Next | Rest:
    """The first stage that has not passed, when the one before has. ``stages``: all, in order.

    A failed stage waits for a person, and so does the first one until somebody has asked for it:
    after an edit everything is to be made anew, and that should be somebody's wish.
    """
    before: StageCounts | None = None
    for stage in stages:
        judged = judge_stage(stage, thresholds)
        if judged.passed:
            before = stage
            continue
        reasons = "; ".join(judged.reasons)
        if judged.verdict is Verdict.EMPTY:
            done = "all subjects are done" if before else "there are no subjects yet"
            return Rest(f"{workflow}: {done}, {stage.partition} is empty")
        if judged.verdict is Verdict.FAILED:
            return Rest(f"{workflow}: {stage.partition} failed: {reasons}; it waits for a person")
        if before is None and not _has_grown(stage):
            return Rest(f"{workflow}: {stage.partition} is the first stage; begin it yourself")
        after = f"{before.partition} has passed" if before else "it has new subjects"
        key = _run_key(workflow, versions, before, stage)
        return Next(stage.partition, key, f"{after}; {stage.partition}: {reasons}")
    return Rest(f"{workflow}: every stage has passed")


def _has_grown(stage: StageCounts) -> bool:
    """It was done, and got more subjects."""
    return bool(stage.ended and stage.missing) and not (
        stage.pending or stage.running or stage.stale
    )


def _run_key(
    workflow: str,
    versions: Mapping[str, str],
    before: StageCounts | None,
    stage: StageCounts,
) -> str:
    """Of what a run would begin with. A run that made nothing, because it was refused or died at
    once, leaves it as it was and is not asked for again; any progress, a retry, new subjects, an
    edit, or another run of the stage before makes another one."""
    state = [sorted(versions.items()), _state(before), _state(stage)]
    digest = hashlib.sha256(repr(state).encode()).hexdigest()[:16]
    return f"{workflow}/{stage.partition}/{digest}"


def _state(stage: StageCounts | None) -> tuple[object, ...]:
    if stage is None:
        return ()
    made = stage.last_commit.isoformat() if stage.last_commit else ""
    counted = (stage.subjects, stage.completed, stage.rejected, stage.failed, stage.skipped)
    return (*counted, stage.pending + stage.running + stage.missing, stage.stale, made)
