"""What only logs tell: why something failed, and how many jobs a runner took. With a deadline of its
own, since a table does not wait for logs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from forge_assets.launches.clouds import Clouds
from forge_assets.launches.log_reader import PAGE, LogReader, late_lines_are_in
from forge_assets.launches.monitor import runner_executions, vertex_jobs
from forge_assets.launches.monitor.explained import Explained, Told
from forge_assets.launches.reasons import Reason, execution_reason, job_reason
from forge_assets.launches.runner import short
from forge_assets.launches.runner_report import read_report
from resources.cloud.cloud_run import Execution
from resources.cloud.listing import Listing
from resources.cloud.log_entry import LogEntry
from resources.cloud.logs import of_execution
from resources.cloud.regions import RegionRead, read_regions
from resources.cloud.vertex import Job
from resources.diagnosis_store import DiagnosisStore

CONTEXT_LINES = 100

_RUNS = "runs"
"""A task's name that no resource has."""

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
        self._runs: dict[str, int | None] = {}

    def read(self, executions: Sequence[Execution], jobs: Sequence[Job], seconds: float) -> Told:
        """After ``seconds`` at the latest; one log read counts the jobs of all ``executions``."""
        now = self._clock()
        failed: list[Execution | Job] = [
            *(each for each in executions if each.state in runner_executions.FAILED),
            *(each for each in jobs if each.state in vertex_jobs.FAILED),
        ]
        counted = [each for each in executions if self._is_to_be_counted(each)]
        tasks = {
            each.name: self._explain(each, now) for each in failed if each.name not in self._reasons
        }
        if counted:
            tasks[_RUNS] = lambda left: self._count(counted, now, left)
        answers = {
            answer.region: answer
            for answer in read_regions(
                lambda name, left: Listing((tasks[name](left),)), list(tasks), seconds, self._clock
            )
        }
        runs, note = _counted(answers.pop(_RUNS, None))
        self._keep(answers, failed, now)
        if not note:
            over = [each for each in counted if late_lines_are_in(each, now)]
            self._runs.update((each.name, runs[each.name]) for each in over)
        explained = {
            each.name: _explained(self._reasons.get(each.name), answers.get(each.name))
            for each in failed
        }
        return Told(explained, {**self._runs, **runs}, note)

    def _is_to_be_counted(self, execution: Execution) -> bool:
        return execution.state != "PENDING" and execution.name not in self._runs

    def _explain(self, failed: Execution | Job, now: datetime) -> Ask:
        def ask(left: float) -> Reason:
            if isinstance(failed, Execution):
                return execution_reason(self._clouds, self._diagnoses, failed, left, now)
            return job_reason(self._clouds, self._diagnoses, failed, left, now)

        return ask

    def _count(
        self, executions: Sequence[Execution], now: datetime, seconds: float
    ) -> tuple[dict[str, int | None], str]:
        """By name, and why they are not told."""
        written = " OR ".join(f"({of_execution(each.name)})" for each in executions)
        condition = f"({written}) AND ({_REPORT_LINES})"
        since = min(each.created for each in executions)
        log = LogReader(self._clouds.logs, self._diagnoses).read(
            condition, since, now, PAGE, seconds
        )
        runs = {each.name: read_report(_of(each, log.entries)).runs for each in executions}
        why = log.said or (log.note if log.is_cut else "")
        return runs, f"jobs not counted: {why}" if why else ""

    def _keep(
        self,
        answers: Mapping[str, RegionRead[Any]],
        failed: Iterable[Execution | Job],
        now: datetime,
    ) -> None:
        """Of what ended long enough ago for all its lines to be there."""
        for each in failed:
            answer = answers.get(each.name)
            if answer and answer.rows and late_lines_are_in(each, now):
                reason: Reason = answer.rows[0]
                if "not read" not in reason.logs:
                    self._reasons[each.name] = reason


def _counted(answer: RegionRead[Any] | None) -> tuple[Mapping[str, int | None], str]:
    if answer is None:
        return {}, ""
    if answer.rows:
        runs, note = answer.rows[0]
        return runs, note
    return {}, f"jobs not counted: {answer.said}"


def _explained(kept: Reason | None, answer: RegionRead[Any] | None) -> Explained:
    reason: Reason | None = kept or (answer.rows[0] if answer and answer.rows else None)
    if reason is None:
        return Explained("", "", (), f"not read: {answer.said}" if answer else "not read")
    return Explained(reason.text, reason.advice, reason.context[-CONTEXT_LINES:], reason.logs)


def _of(execution: Execution, entries: Iterable[LogEntry]) -> list[LogEntry]:
    label = f"run.googleapis.com/execution_name={short(execution.name)}"
    return [entry for entry in entries if label in entry.writer]
