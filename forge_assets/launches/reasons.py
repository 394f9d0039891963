"""Why something ended as it did: the structured fields first, then its log, read once for ever."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from forge_assets.launches.catalogue import classify
from forge_assets.launches.log_causes import ABOVE_AN_EXIT, LogText, is_exit, rank, tells_why
from forge_assets.launches.log_reader import (
    PAGE,
    LogRead,
    LogReader,
    late_lines_are_in,
    store_may_be_away,
)
from forge_assets.launches.reason import (
    AUDIT_LOG,
    LOG,
    NOTHING,
    RUNNER_REPORT,
    Reason,
    known_cause,
)
from forge_assets.launches.runner_report import read_report
from forge_assets.launches.structured import (
    FailedTask,
    build_reason,
    condition_reason,
    error_reason,
    failed_task,
    state_reason,
)
from resources.cloud.cloud_run import Execution
from resources.cloud.log_entry import LogEntry
from resources.cloud.vertex import Job
from resources.diagnosis_store import DiagnosisStore

if TYPE_CHECKING:
    from forge_assets.launches.clouds import Clouds

__all__ = ["Reason", "build_reason", "execution_reason", "job_reason"]

CONTEXT_LINES = 100

_DEEPER = 3 * PAGE
"""Entries that are read when the newest page tells no cause."""


def execution_reason(
    clouds: "Clouds",
    diagnoses: DiagnosisStore | None,
    execution: Execution,
    seconds: float,
    now: datetime,
    with_logs: bool = True,
) -> Reason:
    """``seconds``: deadline of all calls together; what it did not allow is told in ``logs``.

    Costs no call for a success, and none for a failure whose diagnosis is kept.
    """
    if execution.state == "SUCCEEDED":
        return Reason(NOTHING, "it succeeded")
    if execution.state == "CANCELLED":
        return condition_reason(execution)
    kept = kept_reason(diagnoses, execution.name)
    if kept:
        return kept
    end = time.monotonic() + seconds
    structured = [condition_reason(execution)]
    failed = FailedTask()
    if execution.state == "FAILED":
        failed = failed_task(clouds.cloud_run, execution, seconds)
        structured += [failed.reason] if failed.reason else []
    if not with_logs:
        return _less(_most_telling(structured, execution.state), failed.said)
    reader = LogReader(clouds.logs, diagnoses)

    def read(at_most: int) -> LogRead:
        return reader.of_execution(execution, now, end - time.monotonic(), at_most)

    log = _read_deep_enough(read)
    from_log = log_reason(log.entries, execution.ended if failed.is_killed else None)
    reported = runner_report_reason(log.entries)
    found = _most_telling([*structured, reported, from_log], execution.state)
    context = from_log.context
    if reported.context and not (context and log.is_whole):
        context = reported.context
    found = replace(found, context=context, logs=log.note, is_read=log.is_read)
    if not failed.said:
        _keep(diagnoses, execution, found, log, now)
    return _less(found, failed.said)


def job_reason(
    clouds: "Clouds",
    diagnoses: DiagnosisStore | None,
    job: Job,
    seconds: float,
    now: datetime,
    with_logs: bool = True,
) -> Reason:
    """``seconds``: deadline of all calls together; what it did not allow is told in ``logs``.

    Costs no call for what succeeded, was cancelled or never ran, and none for a kept diagnosis.
    """
    if job.state == "SUCCEEDED":
        return Reason(NOTHING, "it succeeded")
    told = [error_reason(job), state_reason(job, now)]
    never_ran = job.started is None and not (job.is_over and told[0].cause is None)
    if never_ran or job.state in ("CANCELLED", "EXPIRED"):
        return _most_telling(told, job.state)
    kept = kept_reason(diagnoses, job.name)
    if kept or not with_logs:
        return kept or _most_telling(told, job.state)
    end = time.monotonic() + seconds
    reader = LogReader(clouds.logs, diagnoses)

    def read(at_most: int) -> LogRead:
        return reader.of_job(job, now, end - time.monotonic(), at_most)

    log = _read_deep_enough(read)
    if not log.entries and not log.said and late_lines_are_in(job, now):
        told.append(_of_silence(job, told[0]))
    from_log = log_reason(log.entries)
    found = _most_telling([*told, from_log], job.state)
    found = replace(found, context=from_log.context, logs=log.note, is_read=log.is_read)
    _keep(diagnoses, job, found, log, now)
    return found


def kept_reason(diagnoses: DiagnosisStore | None, resource: str) -> Reason | None:
    """Of the full name of an execution or a job; None also while the store does not answer."""
    if diagnoses is None:
        return None
    with store_may_be_away():
        content = diagnoses.diagnosis(resource)
        return Reason.from_json(content) if content else None
    return None


def log_reason(
    log: Sequence[LogEntry], killed: datetime | None = None, context_lines: int = CONTEXT_LINES
) -> Reason:
    """What a log tells. ``killed``: when a signal ended the process, if one did."""
    text = LogText(log)
    best = text.best(killed)
    if best is None:
        return Reason(NOTHING, "", context=text.around(None, context_lines))
    source = AUDIT_LOG if best.is_audit else LOG
    return Reason(source, best.cause.line, best.cause, text.around(best.block, context_lines))


def runner_report_reason(log: Sequence[LogEntry]) -> Reason:
    """What the runner's own report calls fatal, with the agent's last lines."""
    fatal = read_report(log).fatal
    if fatal is None:
        return Reason(NOTHING, "")
    known = known_cause(fatal.id, fatal.line)
    return Reason(
        RUNNER_REPORT,
        fatal.line,
        known or classify(fatal.line),
        tuple(fatal.tail),
        own_advice="" if known else fatal.advice,
    )


def _of_silence(job: Job, told: Reason) -> Reason:
    """For a job that has ended without one line, unless its error tells more than a status."""
    only_a_status = told.source == NOTHING or is_exit(told.cause)
    if job.state != "FAILED" or job.started is None or not only_a_status:
        return Reason(NOTHING, "")
    text = f"state JOB_STATE_FAILED, {told.text or 'no error given'}, no log entries"
    return Reason(LOG, text, known_cause("V15", text))


def _most_telling(told: Sequence[Reason], state: str) -> Reason:
    """Of reasons that tell as much the first one: what is structured comes before the log."""
    some = [reason for reason in told if reason.source != NOTHING]
    if some:
        return min(some, key=_weight)
    why = ["nothing tells why"] if state in ("FAILED", "PARTIALLY_SUCCEEDED") else []
    bare = [reason.text for reason in told if reason.text]
    return Reason(NOTHING, ", ".join([f"it is {state}", *bare, *why]))


def _weight(reason: Reason) -> float:
    """The lower, the more it tells."""
    if reason.source == RUNNER_REPORT and reason.cause is None:
        return ABOVE_AN_EXIT
    return rank(reason.cause)


def _read_deep_enough(read: Callable[[int], LogRead]) -> LogRead:
    """One page, and more where that was not all and tells no cause."""
    log = read(PAGE)
    if not log.is_cut or tells_why(log_reason(log.entries).cause):
        return log
    deeper = read(_DEEPER)
    if len(deeper.entries) >= len(log.entries):
        return deeper
    return replace(log, said=deeper.said)


def _keep(
    diagnoses: DiagnosisStore | None,
    resource: Execution | Job,
    found: Reason,
    log: LogRead,
    now: datetime,
) -> None:
    """For ever, so only what no later line can change."""
    if diagnoses is None or not resource.is_over or log.said:
        return
    # A job gets its error a minute after its end.
    is_told = isinstance(resource, Execution) or bool(resource.error)
    if late_lines_are_in(resource, now) or (is_told and log.entries and tells_why(found.cause)):
        with store_may_be_away():
            diagnoses.keep_diagnosis(resource.name, found.as_json())


def _less(reason: Reason, said: str) -> Reason:
    """``said``: what could not be read beside the log, "" for nothing."""
    if not said:
        return reason
    return replace(reason, logs="; ".join(filter(None, [reason.logs, said])), is_read=False)
