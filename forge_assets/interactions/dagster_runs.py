"""What Dagster knows of our runs: who is queued, who died."""

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager

import dagster as dg
from dagster._core.errors import DagsterAssetCheckFailedError, DagsterExecutionInterruptedError
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.events import DagsterEvent
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.dagster_run import RunRecord
from dagster._core.storage.tags import PARTITION_NAME_TAG
from dagster._utils.interrupts import capture_interrupts
from dagster_shared.error import SerializableErrorInfo

from resources.database_errors import KEPT

_HEARTBEAT_FRESH_SECONDS = 90.0
"""The daemon writes one every 30 s."""
_STARTUP_SECONDS = 60.0
"""A run that was started but has not reached its first step may take this long to import."""
_PROCESS_SECONDS = 240.0
"""So long a run may be starting: Dagster's run monitoring ends it after 180 s."""

_RETRY_SECONDS = 180.0
"""The daemon looks for runs to start again every 30 s."""

_INPUTS = ("subjects", "model_weights")
"""Assets beside those of the workflows whose steps take the lock of their run."""

_EVALUATED = (
    AssetCheckExecutionRecordStatus.SUCCEEDED,
    AssetCheckExecutionRecordStatus.FAILED,
)
_BEGINNING = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


def daemon_is_alive(instance: dg.DagsterInstance, now: float | None = None) -> bool:
    """Whether a daemon that starts queued runs has given a sign of life lately."""
    beat = instance.get_daemon_heartbeats().get("QUEUED_RUN_COORDINATOR")
    age = (now if now is not None else time.time()) - beat.timestamp if beat else None
    return age is not None and age < _HEARTBEAT_FRESH_SECONDS


def queued_run(instance: dg.DagsterInstance, partition: str, workflow: str) -> str | None:
    """The id of a run of the partition that waits for the daemon to start it, if any.

    Also of one that failed just now and that the daemon is about to start again (`run_retries`).
    """
    for record in runs_of(instance, partition, workflow, [dg.DagsterRunStatus.QUEUED]):
        return record.dagster_run.run_id
    for record in runs_of(instance, partition, workflow, [dg.DagsterRunStatus.FAILURE]):
        ended = record.end_time or record.update_timestamp.timestamp()
        if record.dagster_run.is_complete_and_waiting_to_retry and (
            time.time() - ended < _RETRY_SECONDS
        ):
            return record.dagster_run.run_id
    return None


def starting_run(instance: dg.DagsterInstance, partition: str, workflow: str) -> str | None:
    """The id of a run of the partition that begins and may not have reached its first step."""
    for record in runs_of(instance, partition, workflow, _BEGINNING):
        if _is_young(record):
            return record.dagster_run.run_id
    return None


def busy_run(
    instance: dg.DagsterInstance, partition: str, workflow: str, lives: Callable[[str], bool]
) -> str | None:
    """The id of a run of the partition that is queued, beginning or at work, if any.

    Not one that Dagster believes started and that does not live: the next run buries it.
    """
    unfinished = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.CANCELING, *_BEGINNING]
    for record in runs_of(instance, partition, workflow, unfinished):
        run = record.dagster_run
        waits = run.status == dg.DagsterRunStatus.QUEUED
        if waits or _is_young(record) or lives(run.run_id):
            return run.run_id
    return None


def runs_of(
    instance: dg.DagsterInstance,
    partition: str,
    workflow: str,
    statuses: list[dg.DagsterRunStatus],
) -> list[RunRecord]:
    filters = dg.RunsFilter(statuses=statuses, tags={PARTITION_NAME_TAG: partition})
    records = instance.get_run_records(filters, limit=50)
    return [record for record in records if touches(record.dagster_run, [workflow])]


def _is_young(record: RunRecord) -> bool:
    """Not by its creation: it may have been queued for hours before its process was started."""
    if record.start_time is not None:
        return time.time() - record.start_time < _STARTUP_SECONDS
    return time.time() - record.update_timestamp.timestamp() < _PROCESS_SECONDS


def fail_dead_runs(
    instance: dg.DagsterInstance,
    workflows: Collection[str],
    lives: Callable[[str], bool],
    log: Callable[[str], None],
) -> None:
    """Marks runs failed that Dagster believes started and that do not live.

    ``workflows``: the project's. What else runs on the instance is not judged, nor a run while steps of
    others come before ours.
    """
    ours = (*workflows, *_INPUTS)
    records = instance.get_run_records(
        dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]),
        limit=100,
    )
    for record in records:
        run = record.dagster_run
        if not touches(run, ours) or _is_young(record) or lives(run.run_id):
            continue
        if _should_hold_its_lock(instance, run.run_id, ours):
            fail_run(instance, run.run_id, log)


def _should_hold_its_lock(instance: dg.DagsterInstance, run_id: str, ours: Collection[str]) -> bool:
    """Whether a step of ours began a while ago, or none at all: then its lock is held, or it is dead."""
    kind = dg.DagsterEventType.STEP_START
    begun = [
        entry
        for record in instance.get_records_for_run(run_id, of_type=kind).records
        if (entry := record.event_log_entry) and entry.step_key
    ]
    of_ours = [entry for entry in begun if str(entry.step_key).split("__")[0] in ours]
    first = min((entry.timestamp for entry in of_ours), default=None)
    return not begun or (first is not None and time.time() - first > _STARTUP_SECONDS)


def touches(run: dg.DagsterRun, workflows: Collection[str]) -> bool:
    """Whether the run materializes an asset of one of the workflows."""
    return any(key.path[0] in workflows for key in run.asset_selection or ())


def fail_run(instance: dg.DagsterInstance, run_id: str, log: Callable[[str], None]) -> None:
    """Marks one run failed if Dagster does not know its end yet."""
    run = instance.get_run_by_id(run_id)
    if run is not None and not run.is_finished:
        instance.report_run_failed(run, "The process of this run ended without a word.")
        log(f"run {run_id} is dead: marked as failed")


_AWAY = ("OperationalError", "InterfaceError")
"""Of psycopg2: what Dagster's own storages raise when a connection is cut."""

INTERRUPTIONS = (KeyboardInterrupt, DagsterExecutionInterruptedError)


def interruptible() -> AbstractContextManager[None]:
    """SIGINT and SIGTERM end the running step in order, as under the `dagster` command."""
    return capture_interrupts()


def was_interrupted(result: dg.ExecuteInProcessResult) -> bool:
    """Whether the run ended by a signal, in a step or between two."""
    return interrupted(result.all_events)


def interrupted(events: Sequence[DagsterEvent]) -> bool:
    """The same, of the failures among a run's events."""
    names = {kind.__name__ for kind in INTERRUPTIONS}
    return any(error.cls_name in names for error in _errors(events))


def why_failed(result: dg.ExecuteInProcessResult) -> tuple[str | None, int]:
    """The sentence and the exit code of the first failed step; (None, 0) after success."""
    return (None, 0) if result.success else why_events_failed(result.all_events)


def why_events_failed(events: Sequence[DagsterEvent]) -> tuple[str, int]:
    """The same, of the events of a run that failed."""
    for event in events:
        if not event.is_step_failure:
            continue
        data = event.step_failure_data
        user = data.user_failure_data
        if user is not None and user.description:
            code = user.metadata.get("exit_code")
            return user.description, int(str(code.value)) if code else 1
        if data.error is not None:
            return _first_cause(data.error), 1
    errors = _errors(events)
    if errors:
        return _first_cause(errors[0]), 1
    for event in events:
        # Of a run that others found dead: they left a sentence.
        if event.is_job_failure and event.message:
            return " ".join(event.message.split()), 1
    return "the run failed without a failed step; look with `dagster dev`", 1


def only_checks_failed(events: Sequence[DagsterEvent]) -> bool:
    """Whether every failed step of a failed run failed by its blocking checks, and by nothing else."""
    errors = [event.step_failure_data.error for event in events if event.is_step_failure]
    return bool(errors) and all(
        error is not None and error.cls_name == DagsterAssetCheckFailedError.__name__
        for error in errors
    )


def _errors(events: Sequence[DagsterEvent]) -> list[SerializableErrorInfo]:
    """Of the failed steps, then of the run itself, each with its cause."""
    found = [event.step_failure_data.error for event in events if event.is_step_failure]
    found += [
        event.job_failure_data.error
        for event in events
        if event.is_job_failure and event.event_specific_data is not None
    ]
    errors = [error for error in found if error is not None]
    return errors + [error.cause for error in errors if error.cause is not None]


def _first_cause(error: SerializableErrorInfo) -> str:
    while error.cause is not None:
        error = error.cause
    said = " ".join(error.message.split())
    if error.cls_name in _AWAY:
        return f"the database does not answer: {said}; {KEPT}"
    return said


def tell_checks_again(instance: dg.DagsterInstance, run_id: str, partition: str) -> None:
    """Reports the run's check evaluations once more where another run hides them.

    Dagster shows the evaluation of the run that was *planned* last, and none at all when that one saw an
    older materialization: as when the terminal runs a stage while a run of it waits in the queue.
    """
    kind = dg.DagsterEventType.ASSET_CHECK_EVALUATION
    ours: dict[dg.AssetCheckKey, dg.AssetCheckEvaluation] = {}
    for record in instance.get_records_for_run(run_id, of_type=kind).records:
        event = record.event_log_entry.dagster_event
        if event is not None and isinstance(event.event_specific_data, dg.AssetCheckEvaluation):
            ours[event.event_specific_data.asset_check_key] = event.event_specific_data
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(
        list(ours), PartitionKeyFilter(key=partition)
    )
    for key, shown in latest.items():
        if shown.run_id != run_id and shown.status in _EVALUATED:
            instance.report_runless_asset_event(ours[key])
