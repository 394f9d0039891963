"""What only logs tell: why something failed, and how many jobs a runner took. With a deadline of its
own, since a table does not wait for logs."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from forge_assets.launches.clouds import Clouds
from forge_assets.launches.log_reader import PAGE, LogReader, late_lines_are_in, store_may_be_away
from forge_assets.launches.monitor import runner_executions, vertex_jobs
from forge_assets.launches.monitor.explained import Explained, Told
from forge_assets.launches.reasons import Reason, execution_reason, job_reason
from forge_assets.launches.runner_report import RunnerReport, read_report
from resources.cloud.ask_all import ask_all
from resources.cloud.cloud_run import Execution
from resources.cloud.log_entry import LogEntry
from resources.cloud.logs import of_execution
from resources.cloud.resource_name import short
from resources.cloud.vertex import Job
from resources.diagnosis_store import DiagnosisStore

CONTEXT_LINES = 100

_REPORTS = "reports"
"""A question's name that no resource has."""
_KEPT = "runs:"
"""Before an execution's name: what is kept of its report."""

# The lines that read_report counts by: an agent's log is long, and one read brings its end only.
_REPORT_LINES = " OR ".join(
    [
        "jsonPayload.forge_runner:*",
        *(
            f'textPayload:"{mark}"'
            for mark in (
                "forge_runner",
                "runs:",
                "runner completed",
                "received job",
                "runQueueItemId",
                "out of a maximum",
            )
        ),
    ]
)

Ask = Callable[[float], Any]


class LogReads:
    """Keeps what it read of what is over: once is enough."""

    def __init__(
        self, clouds: Clouds, diagnoses: DiagnosisStore | None, clock: Callable[[], datetime]
    ) -> None:
        self._clouds = clouds
        self._diagnoses = diagnoses
        self._clock = clock
        self._reasons: dict[str, Reason] = {}
        self._reports: dict[str, RunnerReport] = {}

    def read(self, executions: Sequence[Execution], jobs: Sequence[Job], seconds: float) -> Told:
        """After ``seconds`` at the latest; one log read counts the jobs of all ``executions``."""
        now = self._clock()
        failed: list[Execution | Job] = [
            *(each for each in executions if each.state in runner_executions.FAILED),
            *(each for each in jobs if each.state in vertex_jobs.FAILED),
        ]
        counted = [
            each
            for each in executions
            if each.state != "PENDING" and each.name not in self._reports
        ]
        questions: dict[str, Ask] = {
            each.name: self._explain(each, now) for each in failed if each.name not in self._reasons
        }
        if counted:
            questions[_REPORTS] = lambda left: self._count(counted, now, left)
        answers = ask_all(questions, seconds)
        reports, unread = _counted(answers.pop(_REPORTS, ({}, "")))
        if not unread:
            over = [each for each in counted if late_lines_are_in(each, now)]
            self._reports.update((each.name, reports[each.name]) for each in over)
        for each in failed:
            reason = answers.get(each.name)
            if isinstance(reason, Reason) and reason.is_read and late_lines_are_in(each, now):
                self._reasons[each.name] = reason
        explained = {
            each.name: _explained(self._reasons.get(each.name) or answers[each.name])
            for each in failed
        }
        return Told(explained, {**self._reports, **reports}, unread)

    def _explain(self, failed: Execution | Job, now: datetime) -> Ask:
        def ask(left: float) -> Reason:
            if isinstance(failed, Execution):
                return execution_reason(self._clouds, self._diagnoses, failed, left, now)
            return job_reason(self._clouds, self._diagnoses, failed, left, now)

        return ask

    def _count(
        self, executions: Sequence[Execution], now: datetime, seconds: float
    ) -> tuple[dict[str, RunnerReport], str]:
        """By name, and why some are not told."""
        end = time.monotonic() + seconds
        over = [each for each in executions if late_lines_are_in(each, now)]
        kept = {each.name: report for each in over if (report := self._kept(each))}
        fresh = [each for each in executions if each.name not in kept]
        if not fresh:
            return kept, ""
        written = " OR ".join(f"({of_execution(each.name)})" for each in fresh)
        condition = f"({written}) AND ({_REPORT_LINES})"
        since = min(each.created for each in fresh)
        reader = LogReader(self._clouds.logs, self._diagnoses)
        log = reader.read(condition, since, now, PAGE, end - time.monotonic())
        reports = {each.name: read_report(_of(each, log.entries)) for each in fresh}
        if not log.is_whole:
            return {**kept, **reports}, f"jobs not counted: {log.said or log.note}"
        for each in over:
            if each.name not in kept:
                self._keep(each, reports[each.name])
        return {**kept, **reports}, ""

    def _kept(self, execution: Execution) -> RunnerReport | None:
        if self._diagnoses is not None:
            with store_may_be_away():
                found = self._diagnoses.diagnosis(_KEPT + execution.name)
                return RunnerReport(found["runs"], found["note"]) if found else None
        return None

    def _keep(self, execution: Execution, report: RunnerReport) -> None:
        if self._diagnoses is not None:
            with store_may_be_away():
                content = {"runs": report.runs, "note": report.note}
                self._diagnoses.keep_diagnosis(_KEPT + execution.name, content)


def _counted(answer: Any) -> tuple[Mapping[str, RunnerReport], str]:
    """Of an answer, or of the error that came instead."""
    if isinstance(answer, Exception):
        return {}, f"jobs not counted: {answer}"
    reports, unread = answer
    return reports, unread


def _explained(reason: Reason | Exception) -> Explained:
    if isinstance(reason, Exception):
        return Explained(log_note=f"not read: {reason}")
    return Explained(reason.text, reason.advice, reason.context[-CONTEXT_LINES:], reason.logs)


def _of(execution: Execution, entries: Iterable[LogEntry]) -> list[LogEntry]:
    label = f"run.googleapis.com/execution_name={short(execution.name)}"
    return [entry for entry in entries if label in entry.writer]
