"""What is read from Dagster about runs, on a real instance."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from dagster._core.events import DagsterEvent
from dagster._core.storage.runs.schema import RunsTable
from dagster._core.storage.runs.sql_run_storage import SqlRunStorage

from forge_assets.interactions import dagster_runs
from tests.interactions.made_runs import STATUS, add_run


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    queue = {"concurrency": {"runs": {"max_concurrent_runs": 1}}}
    with dg.instance_for_test(overrides=queue) as made:
        yield made


def test_a_queued_run_of_the_partition_and_workflow_is_found(instance: dg.DagsterInstance) -> None:
    queued = add_run(instance, "canary", STATUS.QUEUED)
    assert dagster_runs.queued_run(instance, "canary", "review") == queued
    assert dagster_runs.queued_run(instance, "ramp", "review") is None
    assert dagster_runs.queued_run(instance, "canary", "other") is None


def test_a_run_that_has_just_begun_is_found(instance: dg.DagsterInstance) -> None:
    begun = add_run(instance, "canary", STATUS.STARTING)
    assert dagster_runs.starting_run(instance, "canary", "review") == begun
    assert dagster_runs.queued_run(instance, "canary", "review") is None


def test_how_long_it_was_queued_does_not_make_a_starting_run_old(
    instance: dg.DagsterInstance,
) -> None:
    begun = add_run(instance, "canary", STATUS.STARTING)
    an_hour_ago = datetime.now(UTC).replace(tzinfo=None) - timedelta(hours=1)
    backdate(instance, create_timestamp=an_hour_ago)
    assert dagster_runs.starting_run(instance, "canary", "review") == begun
    backdate(instance, update_timestamp=an_hour_ago)
    assert dagster_runs.starting_run(instance, "canary", "review") is None


def backdate(instance: dg.DagsterInstance, **columns: datetime | float) -> None:
    storage = instance.run_storage
    assert isinstance(storage, SqlRunStorage)
    with storage.connect() as connection:
        connection.execute(RunsTable.update().values(**columns))


def test_no_daemon_no_heartbeat(instance: dg.DagsterInstance) -> None:
    assert not dagster_runs.daemon_is_alive(instance)


@pytest.fixture
def retrying() -> Iterator[dg.DagsterInstance]:
    overrides = {"run_retries": {"enabled": True, "max_retries": 1}}
    with dg.instance_for_test(overrides=overrides) as made:
        yield made


def test_a_run_that_dagster_is_about_to_start_again_is_as_good_as_queued(
    retrying: dg.DagsterInstance,
) -> None:
    failed = add_run(retrying, "canary", STATUS.STARTED)
    dagster_runs.fail_run(retrying, failed, print)
    assert dagster_runs.queued_run(retrying, "canary", "review") == failed
    backdate(retrying, end_time=time.time() - 600)
    assert dagster_runs.queued_run(retrying, "canary", "review") is None


def test_a_run_that_failed_for_good_is_not_queued(instance: dg.DagsterInstance) -> None:
    failed = add_run(instance, "canary", STATUS.STARTED)
    dagster_runs.fail_run(instance, failed, print)
    assert dagster_runs.queued_run(instance, "canary", "review") is None


@pytest.mark.parametrize(
    ("steps", "dead"),
    [
        ([], True),
        (["extract"], False),
        (["extract", "subjects"], True),
        (["review__gate", "review__wave"], True),
        (["reviewer__gate"], False),
    ],
)
def test_a_run_is_judged_by_its_lock_once_a_step_of_ours_has_begun(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, steps: list[str], dead: bool
) -> None:
    """A user's own asset may come first and take an hour: nobody holds the lock yet."""
    monkeypatch.setattr(dagster_runs, "_STARTUP_SECONDS", -1.0)
    monkeypatch.setattr(dagster_runs, "_PROCESS_SECONDS", -1.0)
    run_id = add_run(instance, "canary", STATUS.STARTED)
    for step in steps:
        begun = DagsterEvent("STEP_START", "__ASSET_JOB", step_key=step)
        instance.report_dagster_event(begun, run_id)
    dagster_runs.fail_dead_runs(instance, ["review"], lambda run_id: False, print)
    status = instance.get_run_by_id(run_id).status  # type: ignore[union-attr]
    assert status == (STATUS.FAILURE if dead else STATUS.STARTED)


def test_a_young_run_without_a_lock_is_left_alone(instance: dg.DagsterInstance) -> None:
    run_id = add_run(instance, "canary", STATUS.STARTED)
    dagster_runs.fail_dead_runs(instance, ["review"], lambda run_id: False, print)
    assert instance.get_run_by_id(run_id).status == STATUS.STARTED  # type: ignore[union-attr]


def test_only_dead_runs_of_our_workflows_are_failed(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dagster_runs, "_PROCESS_SECONDS", -1.0)
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
