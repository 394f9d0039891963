"""Dagster's queue of runs: who is still to come, whether slots are free, and how a run gives way."""

import logging
import time
from collections.abc import Collection, Mapping

import dagster as dg
from dagster._core.events import DagsterEvent
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus
from dagster._core.storage.tags import PARTITION_NAME_TAG, PRIORITY_TAG
from dagster._core.utils import make_new_run_id

from forge_assets.interactions.dagster_runs import touches

GAVE_WAY_TAG = "forge/gave_way_as"
"""On a run that was queued again: the id of the run that gave way."""
GAVE_WAY_TIMES_TAG = "forge/gave_way_times"
_GIVES_WAY_AT_MOST = 5
"""What it waits for is in front of it in the queue: more would be churning."""
_STUCK_SECONDS = 60.0
"""A run that is queued for so long waits for a limit that may be ours."""
_QUEUED_AT_MOST = 1000
_PLANNED = {
    dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED,
}
_TAKING_SLOTS = [
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def promised_by(instance: dg.DagsterInstance, partition: str, workflow: str) -> str | None:
    """The id of a backfill that is about to submit a run of the partition, if any.

    It submits them one by one, in no order: its first runs may be at work before its last are queued.
    """
    requested = BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED])
    for backfill in instance.get_backfills(filters=requested, limit=50):
        for request in backfill.submitting_run_requests or ():
            keys = request.asset_selection or ()
            if request.partition_key == partition and any(key.path[0] == workflow for key in keys):
                return backfill.backfill_id
    return None


def no_slot_is_free(instance: dg.DagsterInstance) -> bool:
    """Whether the queue can start nothing until a run ends."""
    limit = instance.get_concurrency_config().run_queue_config
    if limit is None or limit.max_concurrent_runs < 0:
        return False
    busy = instance.get_runs_count(dg.RunsFilter(statuses=_TAKING_SLOTS))
    return busy >= limit.max_concurrent_runs


def does_not_start_beside(
    instance: dg.DagsterInstance, run_id: str, queued: str, now: float | None = None
) -> bool:
    """Whether ``queued`` has not started although ``run_id`` has been at work for a minute: by a limit
    on tags, say, that counts both."""
    records = [instance.get_run_record_by_id(each) for each in (run_id, queued)]
    since = [
        record.start_time or record.create_timestamp.timestamp()
        for record in records
        if record is not None
    ]
    now = time.time() if now is None else now
    return len(since) == 2 and now - max(since) > _STUCK_SECONDS


def give_way(
    instance: dg.DagsterInstance,
    run_id: str,
    queued: str,
    reason: str,
    positions: Mapping[str, int],
    workflows: Collection[str],
) -> str | None:
    """Queues the run once more, behind ``queued``, and marks this one as cancelled.

    Only for a run that a daemon started and that nobody has stopped. ``positions``: partition key -> its
    place among the stages, in whose order the queue is put. Returns the id of the new run.
    """
    run = instance.get_run_by_id(run_id)
    if run is None or run.remote_job_origin is None or run.status != dg.DagsterRunStatus.STARTED:
        return None
    times = _times(instance, run) + 1
    if times > _GIVES_WAY_AT_MOST:
        return None
    again = _queue_again(instance, run, times)
    put_in_order(instance, positions, workflows)
    _put_behind(instance, again.run_id, queued)
    instance.report_run_canceling(run, reason)
    return again.run_id


def _times(instance: dg.DagsterInstance, run: dg.DagsterRun) -> int:
    """How often it gave way before. Whoever runs it again copies the tags: that is a new beginning."""
    parent = instance.get_run_by_id(run.parent_run_id) if run.parent_run_id else None
    copied = parent is not None and parent.tags.get(GAVE_WAY_TAG) == run.tags.get(GAVE_WAY_TAG)
    return 0 if copied else int(run.tags.get(GAVE_WAY_TIMES_TAG, "0"))


def _queue_again(instance: dg.DagsterInstance, run: dg.DagsterRun, times: int) -> dg.DagsterRun:
    # Not as a child of the other: Dagster would count that as one of the retries that it grants.
    again = instance.add_run(
        run._replace(
            run_id=make_new_run_id(),
            status=dg.DagsterRunStatus.NOT_STARTED,
            tags={**run.tags, GAVE_WAY_TAG: run.run_id, GAVE_WAY_TIMES_TAG: str(times)},
        )
    )
    # What it plans to make: without these events its partition could not be shown as failed.
    for record in instance.get_records_for_run(run.run_id, of_type=_PLANNED).records:
        event = record.event_log_entry.dagster_event
        if event is not None:
            instance.report_dagster_event(event, again.run_id, log_level=logging.DEBUG)
    instance.report_dagster_event(DagsterEvent.job_enqueue(again), run_id=again.run_id)
    return again


def put_in_order(
    instance: dg.DagsterInstance, positions: Mapping[str, int], workflows: Collection[str]
) -> None:
    """Gives every queued run of the workflows a priority by its stage: the first stage comes first.

    Not above runs that are not ours. A priority that somebody chose stays.
    """
    queued = instance.get_runs(
        dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED]), limit=_QUEUED_AT_MOST
    )
    for run in queued:
        position = positions.get(run.tags.get(PARTITION_NAME_TAG, ""))
        if position is None or PRIORITY_TAG in run.tags or not touches(run, workflows):
            continue
        instance.add_run_tags(run.run_id, {PRIORITY_TAG: str(-position)})


def _put_behind(instance: dg.DagsterInstance, run_id: str, queued: str) -> None:
    """Where somebody chose a lower priority for what the run waits for, or a higher one for the run."""
    own, awaited = (_priority(instance.get_run_by_id(each)) for each in (run_id, queued))
    if own >= awaited:
        instance.add_run_tags(run_id, {PRIORITY_TAG: str(awaited - 1)})


def _priority(run: dg.DagsterRun | None) -> int:
    """As Dagster reads it."""
    try:
        return int(run.tags.get(PRIORITY_TAG, "0")) if run is not None else 0
    except ValueError:
        return 0
