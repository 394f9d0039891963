"""`forge work`: join the work on a stage. No Dagster run, no files, no checks: `forge run` makes those."""

import json
import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from forge_assets.cli.open import out, plan_of, tell
from forge_assets.interactions.opened_run import open_stage_run
from forge_assets.interactions.stage_run import Limited
from resources.errors import Refusal
from resources.gpu.resource import GpuResource


def join_stage(workflow: str | None, stage_key: str, workers: int | None, as_json: bool) -> int:
    plan = plan_of(workflow)
    stage = plan.project.stage(stage_key)
    run_id = f"work-{uuid.uuid4()}"
    with (
        _terminable(),
        dg.DagsterInstance.get() as instance,
        open_stage_run(plan, stage, instance, run_id, tell) as run,
    ):
        run.enter()
        outcome = run.work(frozenset(plan.versions), Limited(), GpuResource(), workers)
        if outcome.halted:
            raise Refusal(f"{stage.key} stopped: {outcome.halted}; everything committed is kept")
        run.leave("finished")
        left = run.unfinished()
    tally = outcome.tally
    if as_json:
        out(json.dumps({"run_id": run_id, "ended": tally.finished, "left": left}, indent=2))
    else:
        out(f"{stage.key}: {tally.finished} interactions ended here, {left} are left")
        out(f"next:  forge run {plan.workflow_option}--stage {stage.key}")
    return 0


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends the work as Ctrl+C does."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
