"""The shape of wandb 0.31's ``vertex_runner``, with its two faults, for where wandb is not installed."""

import importlib
from typing import Any


class LaunchError(Exception):
    pass


class Status:
    def __init__(self, state: str = "unknown") -> None:
        self.state = state


class VertexSubmittedRun:
    def __init__(self, job: Any) -> None:
        self._job = job

    async def get_status(self) -> Status:
        job_state = str(self._job.state)
        if job_state == "JobState.JOB_STATE_SUCCEEDED":
            return Status("finished")
        if job_state == "JobState.JOB_STATE_FAILED":
            return Status("failed")
        return Status("unknown")


def get_module(name: str, required: str) -> Any:
    return importlib.import_module(name)


async def launch_vertex_job(
    launch_project: Any,
    spec_args: dict[str, Any],
    run_args: dict[str, Any],
    environment: Any,
    synchronous: bool = False,
) -> VertexSubmittedRun:
    await environment.verify()
    aiplatform = get_module("google.cloud.aiplatform", "it is needed")
    aiplatform.init(
        project=environment.project,
        location=environment.region,
        staging_bucket=spec_args.get("staging_bucket"),
        credentials=await environment.get_credentials(),
    )
    job = aiplatform.CustomJob(
        display_name=launch_project.name,
        worker_pool_specs=spec_args.get("worker_pool_specs"),
        labels={**spec_args.get("labels", {}), "wandb-run-id": launch_project.run_id},
    )
    job.submit(timeout=run_args.get("timeout"), service_account=run_args.get("service_account"))
    return VertexSubmittedRun(job)
