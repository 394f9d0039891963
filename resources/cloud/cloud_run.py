"""Cloud Run: the runner's job, its executions, and how their tasks ended."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from resources.cloud.connections import CLOUD_RUN, Connections
from resources.cloud.credentials import Access
from resources.cloud.errors import Unavailable
from resources.cloud.listing import Listing, read_pages
from resources.cloud.wire_values import NEVER, cut, enum_name, moment, region_of

TERMINAL = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})

_PAGE_SIZE = 100
_ENOUGH = 1000


@dataclass(frozen=True, slots=True)
class RunnerJob:
    """``state``: of the last change: SUCCEEDED means that the job can be run."""

    name: str
    image: str
    labels: Mapping[str, str]
    state: str
    message: str


@dataclass(frozen=True, slots=True)
class Execution:
    """``state``: PENDING, RUNNING, SUCCEEDED, FAILED, CANCELLED or UNKNOWN. Times are UTC.

    ``reason``: the API's word for the end, "" for none. ``environment``: without secrets.
    """

    name: str
    region: str
    job: str
    args: Sequence[str]
    environment: Mapping[str, str]
    state: str
    reason: str
    message: str
    created: datetime
    started: datetime | None
    ended: datetime | None

    @property
    def is_over(self) -> bool:
        return self.state in TERMINAL


@dataclass(frozen=True, slots=True)
class TaskEnd:
    """The last attempt of a task that is over; ``signal`` 0 when none ended it."""

    index: int
    exit_code: int
    signal: int
    message: str


class CloudRun:
    """One connection, made on first use and kept; Cloud Run has one host for all regions.

    Every call takes ``seconds``, its deadline, and is sent once. It raises CloudError.
    """

    def __init__(self, access: Access, clock: Callable[[], float] = time.monotonic) -> None:
        self._connections = Connections(CLOUD_RUN, access, clock)
        # Here and not in the first call, whose deadline it would eat.
        from google.cloud import run_v2
        from google.cloud.run_v2.services.executions.transports.grpc import ExecutionsGrpcTransport
        from google.cloud.run_v2.services.jobs.transports.grpc import JobsGrpcTransport
        from google.cloud.run_v2.services.tasks.transports.grpc import TasksGrpcTransport

        self._jobs = run_v2.JobsClient, JobsGrpcTransport
        self._executions = run_v2.ExecutionsClient, ExecutionsGrpcTransport
        self._tasks = run_v2.TasksClient, TasksGrpcTransport

    def job_name(self, region: str, job: str) -> str:
        return f"{self._parent(region)}/jobs/{job}"

    def job(self, name: str, seconds: float) -> RunnerJob:
        return _job(self._call(self._jobs, name, "get_job", {"name": name}, seconds))

    def create_job(self, region: str, job: str, spec: Mapping[str, Any], seconds: float) -> None:
        """``spec``: a Job of the API as nested mappings. It can be run once its state says so."""
        parent = self._parent(region)
        request = {"parent": parent, "job_id": job, "job": spec}
        self._call(self._jobs, parent, "create_job", request, seconds)

    def update_job(self, name: str, spec: Mapping[str, Any], seconds: float) -> None:
        request = {"job": {**spec, "name": name}}
        self._call(self._jobs, name, "update_job", request, seconds)

    def run(self, name: str, environment: Mapping[str, str], seconds: float) -> Execution:
        """The execution of job ``name`` that was started, as soon as it has a name.

        ``environment``: besides the job's own.

        Not repeated, since the API takes no request id: after Throttled, TimedOut or Unavailable
        an execution may run, and the caller looks for it first.
        """
        variables = [{"name": key, "value": value} for key, value in environment.items()]
        overrides = {"container_overrides": [{"env": variables}]}
        request = {"name": name, "overrides": overrides if variables else {}}
        operation = self._call(self._jobs, name, "run_job", request, seconds)
        if operation.metadata is None or not operation.metadata.name:
            raise Unavailable(f"the start of {name} was answered without an execution")
        return _execution(operation.metadata)

    def executions(self, region: str, since: datetime, seconds: float) -> Listing[Execution]:
        """Of every job, those created at ``since`` or later, newest first; the newest 1,000 suffice.

        The API takes no filter: reading ends with the first page that is in order and ends before
        ``since``, or brings the last of those.
        """
        parent = f"{self._parent(region)}/jobs/-"
        read = 0

        def fetch(token: str, left: float) -> tuple[list[Execution], str]:
            nonlocal read
            request = {"parent": parent, "page_size": _PAGE_SIZE, "page_token": token}
            pager = self._call(self._executions, parent, "list_executions", request, left)
            page = next(iter(pager.pages))
            read += len(page.executions)
            rows = [_execution(execution) for execution in page.executions]
            created = [row.created for row in rows]
            in_order = created == sorted(created, reverse=True)
            is_last = bool(rows) and in_order and (created[-1] < since or read >= _ENOUGH)
            return rows, "" if is_last else page.next_page_token

        listing = read_pages(fetch, seconds)
        wanted = [row for row in listing.rows if row.created >= since]
        wanted.sort(key=lambda row: (row.created, row.name), reverse=True)
        return Listing(tuple(wanted), listing.missing)

    def execution(self, name: str, seconds: float) -> Execution:
        request = {"name": name}
        return _execution(self._call(self._executions, name, "get_execution", request, seconds))

    def task_ends(self, execution: str, seconds: float) -> Sequence[TaskEnd]:
        """Of the tasks that are over, by index. A listing that ends half way is raised."""

        def fetch(token: str, left: float) -> tuple[list[TaskEnd], str]:
            request = {"parent": execution, "page_size": _PAGE_SIZE, "page_token": token}
            pager = self._call(self._tasks, execution, "list_tasks", request, left)
            page = next(iter(pager.pages))
            return [
                _task(task) for task in page.tasks if task.completion_time
            ], page.next_page_token

        return sorted(read_pages(fetch, seconds).whole(), key=lambda end: end.index)

    def _call(
        self,
        classes: tuple[type, type],
        resource: str,
        method: str,
        request: Mapping[str, Any],
        seconds: float,
    ) -> Any:
        region = region_of(resource)
        client = self._connections.client(region, *classes)
        return self._connections.call(region, getattr(client, method), request, seconds)

    def _parent(self, region: str) -> str:
        return f"projects/{self._connections.project}/locations/{region}"


def _job(job: Any) -> RunnerJob:
    containers = list(job.template.template.containers)
    return RunnerJob(
        name=job.name,
        image=containers[0].image if containers else "",
        labels=dict(job.labels),
        state=enum_name(job.terminal_condition.state, "CONDITION_"),
        message=job.terminal_condition.message,
    )


def _execution(execution: Any) -> Execution:
    state, reason, message = _end(execution)
    containers = list(execution.template.containers)
    return Execution(
        name=execution.name,
        region=region_of(execution.name),
        job=execution.job.rsplit("/", 1)[-1],
        args=tuple(containers[0].args) if containers else (),
        environment={each.name: each.value for each in containers[0].env} if containers else {},
        state=state,
        reason=reason,
        message=message,
        created=moment(execution.create_time) or NEVER,
        started=moment(execution.start_time),
        ended=moment(execution.completion_time),
    )


def _end(execution: Any) -> tuple[str, str, str]:
    """State, reason, message. The condition is there while it runs, too: its state tells."""
    for condition in execution.conditions:
        if condition.type_ == "Completed":
            break
    else:
        if execution.completion_time:
            return _by_counts(execution), "", ""
        return ("RUNNING" if execution.running_count else "PENDING"), "", ""
    reason = _reason(condition)
    match enum_name(condition.state, "CONDITION_"):
        case "SUCCEEDED":
            return "SUCCEEDED", reason, cut(condition.message)
        case "FAILED":
            cancelled = reason == "CANCELLED" or execution.cancelled_count
            return ("CANCELLED" if cancelled else "FAILED"), reason, cut(condition.message)
        case "PENDING" | "RECONCILING":
            running = "RUNNING" if execution.running_count else "PENDING"
            return running, reason, cut(condition.message)
    return "UNKNOWN", reason, cut(condition.message)


def _by_counts(execution: Any) -> str:
    """Of one that is over and says no more."""
    if execution.failed_count:
        return "FAILED"
    if execution.cancelled_count:
        return "CANCELLED"
    return "SUCCEEDED" if execution.succeeded_count else "UNKNOWN"


def _reason(condition: Any) -> str:
    for value in (condition.execution_reason, condition.reason):
        name = enum_name(value)
        if value and not name.endswith("_UNDEFINED"):
            return name
    return ""


def _task(task: Any) -> TaskEnd:
    result = task.last_attempt_result
    return TaskEnd(task.index, result.exit_code, result.term_signal, result.status.message)
