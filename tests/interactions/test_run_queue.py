"""The queue of runs on a real instance: who is still to come, what is stuck, how a run gives way."""

import time
from collections.abc import Iterator, Sequence

import dagster as dg
import pytest
from dagster._core.events import DagsterEvent
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.utils import make_new_run_id

from forge_assets.interactions import run_queue
from tests.interactions.made_runs import POSITIONS, STATUS, add_run, gate

REASON = "ramp waits for canary"


@dg.asset(key=["other", "gate"], partitions_def=dg.StaticPartitionsDefinition([*POSITIONS]))
def foreign_gate() -> None: ...


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    queue = {"concurrency": {"runs": {"max_concurrent_runs": 1}}}
    with dg.instance_for_test(overrides=queue) as made:
        yield made


def give_way(instance: dg.DagsterInstance, run_id: str, queued: str = "gone") -> str | None:
    return run_queue.give_way(instance, run_id, queued, REASON, POSITIONS, ["review"])


def started_again(instance: dg.DagsterInstance, run_id: str) -> str:
    """The daemon has started the run that was queued again."""
    run = instance.get_run_by_id(run_id)
    assert run is not None
    for event in (dg.DagsterEventType.PIPELINE_STARTING, dg.DagsterEventType.PIPELINE_START):
        instance.report_dagster_event(DagsterEvent(event.value, run.job_name), run_id)
    return run_id


def priorities(instance: dg.DagsterInstance) -> dict[str, str | None]:
    """Of the queued runs, by partition."""
    queued = instance.get_runs(dg.RunsFilter(statuses=[STATUS.QUEUED]))
    return {run.tags["dagster/partition"]: run.tags.get("dagster/priority") for run in queued}


def test_slots_are_taken_by_what_runs_not_by_what_waits(instance: dg.DagsterInstance) -> None:
    add_run(instance, "canary", STATUS.QUEUED)
    assert not run_queue.no_slot_is_free(instance)
    add_run(instance, "ramp", STATUS.STARTED)
    assert run_queue.no_slot_is_free(instance)


def test_a_run_that_gives_way_is_queued_again(instance: dg.DagsterInstance) -> None:
    waiting = add_run(instance, "ramp", STATUS.STARTED)
    again = give_way(instance, waiting)
    assert again is not None
    queued = instance.get_run_by_id(again)
    old = instance.get_run_by_id(waiting)
    assert queued is not None
    assert old is not None
    assert (queued.status, old.status) == (STATUS.QUEUED, STATUS.CANCELING)
    assert queued.tags["dagster/partition"] == "ramp"
    assert queued.asset_selection == frozenset({gate.key})
    assert queued.tags["forge/gave_way_as"] == waiting
    # Else Dagster would count it as a retry, and start it no more when it dies.
    assert (queued.parent_run_id, queued.root_run_id) == (None, None)


def test_what_it_plans_to_make_is_known_of_the_run_that_is_queued_again(
    instance: dg.DagsterInstance,
) -> None:
    waiting = add_run(instance, "ramp", STATUS.STARTED)
    again = give_way(instance, waiting)
    assert again is not None
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    (planned,) = instance.get_records_for_run(again, of_type=kind).records
    event = planned.event_log_entry.dagster_event
    assert event is not None
    assert (event.asset_key, event.partition) == (gate.key, "ramp")


def test_a_run_gives_way_five_times_at_most(instance: dg.DagsterInstance) -> None:
    run_id = add_run(instance, "ramp", STATUS.STARTED)
    for _ in range(5):
        again = give_way(instance, run_id)
        assert again is not None
        run_id = started_again(instance, again)
    assert give_way(instance, run_id) is None


def test_what_somebody_runs_again_gives_way_anew(instance: dg.DagsterInstance) -> None:
    run_id = add_run(instance, "ramp", STATUS.STARTED)
    for _ in range(5):
        run_id = started_again(instance, str(give_way(instance, run_id)))
    used_up = instance.get_run_by_id(run_id)
    assert used_up is not None
    copied = used_up._replace(
        run_id=make_new_run_id(), parent_run_id=run_id, root_run_id=run_id, status=STATUS.STARTED
    )
    assert give_way(instance, instance.add_run(copied).run_id) is not None


@pytest.mark.parametrize("status", [STATUS.CANCELING, STATUS.FAILURE])
def test_a_run_that_somebody_stopped_does_not_come_back(
    instance: dg.DagsterInstance, status: STATUS
) -> None:
    assert give_way(instance, add_run(instance, "ramp", status)) is None


def test_it_comes_behind_what_it_waits_for_whatever_was_chosen(
    instance: dg.DagsterInstance,
) -> None:
    canary = add_run(instance, "canary", STATUS.QUEUED, **{"dagster/priority": "-10"})
    waiting = add_run(instance, "ramp", STATUS.STARTED, **{"dagster/priority": "7"})
    assert give_way(instance, waiting, canary) is not None
    assert priorities(instance) == {"canary": "-10", "ramp": "-11"}


def test_the_queue_is_put_in_the_order_of_the_stages(instance: dg.DagsterInstance) -> None:
    add_run(instance, "full", STATUS.QUEUED)
    add_run(instance, "canary", STATUS.QUEUED)
    assert give_way(instance, add_run(instance, "ramp", STATUS.STARTED)) is not None
    assert priorities(instance) == {"canary": "0", "ramp": "-1", "full": "-2"}


def test_a_chosen_priority_and_the_runs_of_others_stay(instance: dg.DagsterInstance) -> None:
    add_run(instance, "canary", STATUS.QUEUED, asset=foreign_gate)
    add_run(instance, "full", STATUS.QUEUED, **{"dagster/priority": "7"})
    run_queue.put_in_order(instance, POSITIONS, ["review"])
    assert priorities(instance) == {"canary": None, "full": "7"}


def test_a_run_from_the_command_line_does_not_give_way(instance: dg.DagsterInstance) -> None:
    waiting = add_run(instance, "ramp", STATUS.STARTED, by_daemon=False)
    assert give_way(instance, waiting) is None


def test_what_does_not_start_beside_a_run_for_a_minute(instance: dg.DagsterInstance) -> None:
    queued = add_run(instance, "canary", STATUS.QUEUED)
    waiting = add_run(instance, "ramp", STATUS.STARTED)
    later = time.time() + 61
    assert not run_queue.does_not_start_beside(instance, waiting, queued)
    assert run_queue.does_not_start_beside(instance, waiting, queued, later)
    assert not run_queue.does_not_start_beside(instance, waiting, "gone", later)


def submitting(instance: dg.DagsterInstance, status: BulkActionStatus, keys: Sequence[str]) -> str:
    """A backfill that has yet to submit these partitions of the gate."""
    backfill = PartitionBackfill(
        "abcdefgh",
        status,
        from_failure=False,
        tags={},
        backfill_timestamp=time.time(),
        asset_selection=[gate.key],
        submitting_run_requests=[
            dg.RunRequest(partition_key=key, asset_selection=[gate.key]) for key in keys
        ],
    )
    instance.add_backfill(backfill)
    return backfill.backfill_id


def test_a_backfill_promises_what_it_has_yet_to_submit(instance: dg.DagsterInstance) -> None:
    backfill = submitting(instance, BulkActionStatus.REQUESTED, ["canary", "ramp"])
    assert run_queue.promised_by(instance, "canary", "review") == backfill
    assert run_queue.promised_by(instance, "full", "review") is None
    assert run_queue.promised_by(instance, "canary", "other") is None


def test_a_backfill_that_was_stopped_promises_nothing(instance: dg.DagsterInstance) -> None:
    submitting(instance, BulkActionStatus.CANCELED, ["canary"])
    assert run_queue.promised_by(instance, "canary", "review") is None
