"""The asset `launches`: materialized with run config it launches one job."""

from collections.abc import Iterator

import dagster as dg
from pydantic import Field

from forge_assets.project import Project

LAUNCHES = dg.AssetKey("launches")


NO_JOB = "say in the run config which job to launch: {ops: {launches: {config: {job: KEY}}}}"
"""Also where there is only one: whoever materializes all assets does not mean to pay for a job."""


class LaunchConfig(dg.Config):
    job: str | None = Field(default=None, description="Its key in cloud.jobs of forge.yaml.")
    direct: bool = Field(default=False, description="Past the queue.")


def build_launches(project: Project) -> dg.AssetsDefinition:
    @dg.asset(
        key=LAUNCHES,
        group_name="launches",
        kinds={"googlecloud"},
        description="Jobs on Vertex AI. Materializing it launches one, directly or through the W&B"
        " Launch queue of forge.yaml, and sees that it is there; the run config says which:"
        " `{ops: {launches: {config: {job: KEY}}}}`. The sensors report what becomes of"
        " every launch, also of those that `forge launch` made.",
    )
    def launches(
        context: dg.AssetExecutionContext, config: LaunchConfig
    ) -> Iterator[dg.MaterializeResult]:
        from forge_assets.dagster_words import one_sentence, say
        from forge_assets.launches.launching import launch_job
        from forge_assets.launches.reporting import metadata_of
        from resources.database import open_engine
        from resources.errors import ConfigurationError, Refusal
        from resources.launch_store import LaunchStore

        with one_sentence():
            if config.job is None:
                raise ConfigurationError(NO_JOB)
            result = launch_job(project, config.job, config.direct, say(context))
            if result.exit_code:
                raise Refusal("; ".join((result.sentence, *result.advice)))
            # Marked as reported once Dagster has it.
            with LaunchStore(open_engine()).telling(result.launch):
                yield dg.MaterializeResult(metadata=metadata_of(result))

    return launches
