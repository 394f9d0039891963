"""What is read from Dagster about runs, on a real instance."""

from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)

from forge_assets.interactions import dagster_runs

STATUS = dg.DagsterRunStatus
ORIGIN = RemoteJobOrigin(
    RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "repository"), "__ASSET_JOB"
)


@dg.asset(key=["review", "gate"], partitions_def=dg.StaticPartitionsDefinition(["canary", "ramp"]))
def gate() -> None: ...


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    queue = {"concurrency": {"runs": {"max_concurrent_runs": 1}}}
    with dg.instance_for_test(overrides=queue) as made:
        yield made


def add_run(
    instance: dg.DagsterInstance, partition: str, status: STATUS, *, by_daemon: bool = True
) -> str:
    job = dg.Definitions(assets=[gate]).resolve_implicit_global_asset_job_def()
    run = instance.create_run_for_job(
        job,
        status=status,
        tags={"dagster/partition": partition},
        asset_selection=frozenset({gate.key}),
        remote_job_origin=ORIGIN if by_daemon else None,
    )
    return run.run_id


def test_a_queued_run_of_the_partition_and_workflow_is_found(instance: dg.DagsterInstance) -> None:
    queued = add_run(instance, "canary", STATUS.QUEUED)
    assert dagster_runs.queued_run(instance, "canary", "review") == queued
    assert dagster_runs.queued_run(instance, "ramp", "review") is None
    assert dagster_runs.queued_run(instance, "canary", "other") is None


def test_a_run_that_has_just_begun_is_found(instance: dg.DagsterInstance) -> None:
    begun = add_run(instance, "canary", STATUS.STARTING)
    assert dagster_runs.starting_run(instance, "canary", "review") == begun
    assert dagster_runs.queued_run(instance, "canary", "review") is None


def test_no_daemon_no_heartbeat(instance: dg.DagsterInstance) -> None:
    assert not dagster_runs.daemon_is_alive(instance)


def test_only_dead_runs_of_our_workflows_are_failed(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dagster_runs, "_STARTUP_SECONDS", -1.0)
    dead = add_run(instance, "canary", STATUS.STARTED)
    alive = add_run(instance, "ramp", STATUS.STARTED)
    said: list[str] = []
    dagster_runs.fail_dead_runs(instance, ["other"], lambda run_id: False, said.append)
    assert said == []
    dagster_runs.fail_dead_runs(instance, ["review"], alive.__eq__, said.append)
    assert [instance.get_run_by_id(run_id).status for run_id in (dead, alive)] == [  # type: ignore[union-attr]
        STATUS.FAILURE,
        STATUS.STARTED,
    ]
