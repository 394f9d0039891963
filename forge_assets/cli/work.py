"""`forge work`: join the work on a stage. No Dagster run, no files, no checks: `forge run` makes those."""

import json
import signal
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from forge_assets.cli.open import out, plan_of
from forge_assets.interactions.stage_run import Limited, StageRun
from resources.errors import Refusal
from resources.gpu.resource import GpuResource
from resources.interaction_store import InteractionStore
from resources.plain_text import visible


def join_stage(workflow: str | None, stage_key: str, workers: int | None, as_json: bool) -> int:
    plan = plan_of(workflow)
    stage = plan.project.stage(stage_key)
    with _stage_run(plan, stage) as run:
        run.enter()
        outcome = run.work(frozenset(plan.versions), Limited(), GpuResource(), workers)
        if outcome.halted:
            raise Refusal(f"{stage.key} stopped: {outcome.halted}; everything committed is kept")
        run.leave("finished")
        left = run.unfinished()
    tally = outcome.tally
    if as_json:
        out(json.dumps({"run_id": run.run_id, "ended": tally.finished, "left": left}, indent=2))
    else:
        out(f"{stage.key}: {tally.finished} interactions ended here, {left} are left")
        out(f"next:  forge run --stage {stage.key}")
    return 0


@contextmanager
def _stage_run(plan: Any, stage: Any) -> Iterator[StageRun]:
    """A run of its own in the store; an error or a signal closes it."""
    import dagster as dg
    from sqlalchemy.exc import SQLAlchemyError

    from resources.dagster_storage import require_forge_instance
    from resources.database import open_engine

    engine = open_engine()
    with _terminable(), dg.DagsterInstance.get() as instance:
        require_forge_instance(instance)
        run_id = f"work-{uuid.uuid4()}"
        store = InteractionStore(engine)
        run = StageRun(plan, stage, engine, store, instance, run_id, _tell)
        try:
            yield run
        except BaseException as error:
            with suppress(SQLAlchemyError):
                if isinstance(error, Exception):
                    run.leave("failed", str(error) or type(error).__name__)
                else:
                    run.leave("cut_short", "interrupted")
            raise


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


def _tell(line: str) -> None:
    print(visible(line), file=sys.stderr, flush=True)  # noqa: T201
