"""`stage_progress_sensor`: asks for the next stage of each workflow when the one before has passed."""

from functools import partial
from typing import TYPE_CHECKING

import dagster as dg

from forge_assets.interactions.stage_selection import stage_selection
from forge_assets.progression import Next, next_stage
from forge_assets.project import Project, WorkflowPlan
from sensors.tick import INTERVAL_SECONDS, in_one_sentence

if TYPE_CHECKING:
    from resources.interaction_store import InteractionStore


def build_stage_progress_sensor(
    project: Project, interval: int = INTERVAL_SECONDS
) -> dg.SensorDefinition:
    plans = [WorkflowPlan(project, workflow) for workflow in project.workflows]
    keys = dict.fromkeys(key for plan in plans for key in stage_selection(plan))

    @dg.sensor(
        name="stage_progress_sensor",
        asset_selection=dg.AssetSelection.assets(*keys),
        minimum_interval_seconds=interval,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Runs the next stage of each workflow when the checks of the one before have"
        " passed, then batch after batch until the subjects are done. Off until you switch it on."
        " The first stage of a roll-out, and whatever failed, is for a person to start.",
    )
    def stage_progress_sensor(
        context: dg.SensorEvaluationContext,
    ) -> dg.SensorResult | dg.SkipReason:
        with in_one_sentence() as said:
            answers = [progress(plan, context.instance) for plan in plans]
            requests = [answer for answer in answers if isinstance(answer, dg.RunRequest)]
            rests = [answer for answer in answers if isinstance(answer, str)]
            for sentence in rests if requests else ():
                context.log.info(sentence)
            if requests:
                return dg.SensorResult(run_requests=requests)
            return dg.SkipReason("; ".join(rests))
        return dg.SkipReason(said.sentence)

    return stage_progress_sensor


def progress(plan: WorkflowPlan, instance: dg.DagsterInstance) -> dg.RunRequest | str:
    """The run to ask for, or the sentence that says why there is none now."""
    from forge_assets.interactions.status import stage_counts
    from resources.database import open_engine
    from resources.interaction_store import InteractionStore

    store = InteractionStore(open_engine())
    name = plan.workflow.name
    counts = stage_counts(plan, store)
    found = next_stage(name, plan.versions, counts, plan.project.config.thresholds)
    if not isinstance(found, Next):
        return found.reason
    if busy := busy_run(plan, found.stage, store, instance):
        return f"{name}: {found.stage} is asked for already, by run {busy}"
    # The store was read before Dagster's records and the locks: what ended in between shows now.
    if stage_counts(plan, store) != counts:
        return f"{name}: {found.stage} changes just now"
    scope = plan.project.scope(plan.workflow, plan.project.stage(found.stage))
    # A retry of a whole stage leaves it as if nothing had ever been made: only its runs remember.
    commits = [run.last_commit for run in store.runs(scope) if run.last_commit is not None]
    last = f"{max(commits):%Y%m%dT%H%M%S.%f}" if commits else "new"
    return dg.RunRequest(
        run_key=f"{found.run_key}/{last}",
        partition_key=found.stage,
        asset_selection=stage_selection(plan),
    )


def busy_run(
    plan: WorkflowPlan, key: str, store: "InteractionStore", instance: dg.DagsterInstance
) -> str | None:
    """The id of a run of the stage that is queued or works, by Dagster's records or by its lock."""
    from forge_assets.interactions import dagster_runs, presence
    from resources.database import open_engine
    from resources.worker_ids import run_of

    engine = open_engine()
    lives = partial(presence.lives, engine, store)
    queued = dagster_runs.busy_run(instance, key, plan.workflow.name, lives)
    if queued is not None:
        return queued
    scope = plan.project.scope(plan.workflow, plan.project.stage(key))
    alive, _ = presence.running_runs(engine, store, scope)
    return run_of(alive[0].run_id) if alive else None
