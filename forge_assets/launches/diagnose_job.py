"""The job `diagnose_launch`: why a job or a runner's execution failed, kept and told on `launches`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Literal
from uuid import UUID

import dagster as dg
from pydantic import Field

from forge_assets.launches.reporting import observation
from forge_assets.project import Project
from resources.cloud.errors import Throttled, TimedOut, Unavailable
from resources.cloud.resource_name import same

if TYPE_CHECKING:
    from forge_assets.launches.clouds import Clouds
    from forge_assets.launches.reasons import Reason
    from resources.diagnosis_store import DiagnosisStore
    from resources.launch_store import Launch, LaunchStore

JOB_NAME = "diagnose_launch"
CALL_SECONDS = 15.0
REASON_SECONDS = 120.0
RETRIES = 3
RETRY_SECONDS = 60
"""The budget of log reads is shared: it may be spent."""
CONTEXT_LINES = 20

Kind = Literal["job", "execution"]


class DiagnoseConfig(dg.Config):
    resource: str = Field(description="Full name of a custom job or of an execution.")
    region: str = Field(description="Where it is.")
    kind: str = Field(description="job or execution", pattern="^(job|execution)$")


def diagnosis_request(
    resource: str, region: str, kind: Kind, launch: UUID | None = None
) -> dg.RunRequest:
    """Once for a resource, however often it is asked for."""
    config = {"resource": resource, "region": region, "kind": kind}
    tags = {"forge/resource": resource.rsplit("/", 1)[-1]}
    if launch is not None:
        tags["forge/launch"] = str(launch)
    return dg.RunRequest(
        run_key=resource, run_config={"ops": {"diagnose": {"config": config}}}, tags=tags
    )


def build_diagnose_job(project: Project) -> dg.JobDefinition:
    @dg.op(name="diagnose", description="Structured fields first, then the log, read once.")
    def diagnose_op(context: dg.OpExecutionContext, config: DiagnoseConfig) -> None:
        from forge_assets.launches.clouds import open_clouds
        from resources.cloud.regions import utc_now
        from resources.database import open_engine
        from resources.diagnosis_store import DiagnosisStore
        from resources.launch_store import LaunchStore

        with _one_sentence():
            clouds = open_clouds(project.config.cloud)
            engine = open_engine()
            kind: Kind = "job" if config.kind == "job" else "execution"
            reason = diagnose(clouds, DiagnosisStore(engine), config.resource, kind, utc_now())
            if not (reason.is_found or reason.is_read) and context.retry_number < RETRIES:
                context.log.warning(f"{config.resource}: {reason.logs}")
                raise dg.RetryRequested(RETRIES, RETRY_SECONDS)
            context.log.info(f"{config.resource}: {reason.text}")
            ended = keep(LaunchStore(engine), clouds.project, config.resource, reason)
            context.log_event(diagnosis_event(config, reason, ended))

    @dg.job(
        name=JOB_NAME,
        executor_def=dg.in_process_executor,
        description="Says why a job on Vertex AI, or an execution of the runner, failed.",
    )
    def diagnose_launch() -> None:
        diagnose_op()

    return diagnose_launch


@contextmanager
def _one_sentence() -> Iterator[None]:
    """As every error of ours reaches Dagster; what may pass by itself is tried again."""
    from forge_assets.dagster_words import one_sentence

    with one_sentence():
        try:
            yield
        except (Throttled, TimedOut, Unavailable) as error:
            raise dg.RetryRequested(RETRIES, RETRY_SECONDS) from error


def diagnose(
    clouds: "Clouds", diagnoses: "DiagnosisStore", resource: str, kind: Kind, now: datetime
) -> "Reason":
    """CloudError when the resource itself cannot be read."""
    from forge_assets.launches.reasons import execution_reason, job_reason

    if kind == "job":
        job = clouds.vertex.get(resource, CALL_SECONDS)
        return job_reason(clouds, diagnoses, job, REASON_SECONDS, now)
    execution = clouds.cloud_run.execution(resource, CALL_SECONDS)
    return execution_reason(clouds, diagnoses, execution, REASON_SECONDS, now)


def keep(store: "LaunchStore", project: str, resource: str, reason: "Reason") -> Sequence["Launch"]:
    """The reason, with the launches that ended by it; these."""
    ended = [launch for launch in store.named(resource, project) if _ended_by(launch, resource)]
    for launch in ended:
        told = reason.text if reason.is_found else launch.reason
        store.change(launch.id, "diagnosed", reason.as_json(), reason=told)
    return ended


def _ended_by(launch: "Launch", resource: str) -> bool:
    """A runner that died after the job began is not why the job failed."""
    if same(launch.job_name, resource):
        return True
    return same(launch.execution, resource) and launch.job_name is None


def diagnosis_event(
    config: DiagnoseConfig, reason: "Reason", ended: Sequence["Launch"]
) -> dg.AssetObservation:
    cause = reason.cause
    return observation(
        f"{config.resource} diagnosed",
        launch=", ".join(str(launch.id) for launch in ended),
        resource=config.resource,
        region=config.region,
        reason=reason.text,
        source=reason.source,
        error_class=cause.entry.error_class if cause else None,
        advice=reason.advice,
        logs=reason.logs,
        context="\n".join(reason.context[-CONTEXT_LINES:]),
    )
