"""Runs of a gate asset, made by hand on a real instance."""

import dagster as dg
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)

STATUS = dg.DagsterRunStatus
ORIGIN = RemoteJobOrigin(
    RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "repository"), "__ASSET_JOB"
)
POSITIONS = {"canary": 0, "ramp": 1, "full": 2}


@dg.asset(key=["review", "gate"], partitions_def=dg.StaticPartitionsDefinition([*POSITIONS]))
def gate() -> None: ...


def add_run(
    instance: dg.DagsterInstance,
    partition: str,
    status: STATUS,
    *,
    by_daemon: bool = True,
    asset: dg.AssetsDefinition = gate,
    **tags: str,
) -> str:
    job = dg.Definitions(assets=[asset]).resolve_implicit_global_asset_job_def()
    run = instance.create_run_for_job(
        job,
        status=status,
        tags={"dagster/partition": partition, **tags},
        asset_selection=frozenset({asset.key}),
        remote_job_origin=ORIGIN if by_daemon else None,
    )
    return run.run_id
