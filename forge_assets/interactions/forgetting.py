"""What the store forgets when a stage is done, as forge.yaml says."""

from sqlalchemy.exc import SQLAlchemyError

from forge_assets.interactions.stage_run import StageRun


def forget(run: StageRun) -> None:
    """The stage is done: what hinders this is told and fails nothing."""
    limits = run.plan.project.config.retention
    try:
        removed = run.store.apply_retention(
            run.scope.dataset, events=limits.events, samples=limits.samples
        )
    except SQLAlchemyError as error:
        run.say(
            f"old events and samples were not removed ({type(error).__name__}); the next run will"
        )
        return
    if removed.events or removed.samples:
        run.say(f"removed {removed.events} old events and {removed.samples} old samples")
