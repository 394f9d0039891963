"""A run of a stage while it is open: its database, its lock, and its end when something goes wrong."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import dagster as dg
from sqlalchemy.exc import SQLAlchemyError

from forge_assets.interactions import presence
from forge_assets.interactions.stage_run import StageRun
from forge_assets.project import WorkflowPlan
from forge_assets.stages import Stage
from resources.dagster_storage import require_forge_instance
from resources.database import open_engine
from resources.interaction_store import InteractionStore


@contextmanager
def open_stage_run(
    plan: WorkflowPlan,
    stage: Stage,
    instance: dg.DagsterInstance,
    run_id: str,
    say: Callable[[str], None],
) -> Iterator[StageRun]:
    """The run with its lock taken; an error or a signal closes it, so that nobody waits for it."""
    require_forge_instance(instance)
    engine = open_engine()
    presence.hold(engine, run_id)
    run = StageRun(plan, stage, engine, InteractionStore(engine), instance, run_id, say)
    try:
        yield run
    except BaseException as error:
        with suppress(SQLAlchemyError):
            if isinstance(error, Exception):
                run.leave("failed", str(error) or type(error).__name__)
            else:
                run.leave("cut_short", "interrupted")
        raise
