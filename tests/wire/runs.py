"""Cloud Run of the fake Google: jobs, and executions and tasks that live as scripted."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import grpc
from google.cloud.run_v2.services.executions.transports.grpc import ExecutionsGrpcTransport
from google.cloud.run_v2.services.jobs.transports.grpc import JobsGrpcTransport
from google.cloud.run_v2.services.tasks.transports.grpc import TasksGrpcTransport
from google.cloud.run_v2.types import (
    Condition,
    Execution,
    Job,
    ListExecutionsRequest,
    ListExecutionsResponse,
    ListTasksResponse,
    Task,
    TaskAttemptResult,
)
from google.longrunning.operations_pb2 import Operation

from tests.wire.faults import WireError
from tests.wire.paging import page

Reason = Condition.ExecutionReason
State = Condition.State


@dataclass(frozen=True)
class ExecutionLife:
    """Seconds after the start; ``ends`` None: for ever. ``signal``: of the kernel, 0 for none."""

    runs: float = 1.0
    ends: float | None = None
    exit_code: int = 0
    signal: int = 0
    message: str = ""

    @property
    def fails(self) -> bool:
        return bool(self.exit_code or self.signal)


@dataclass
class _Record:
    execution: Execution
    born: datetime
    life: ExecutionLife
    cancelled: datetime | None = None

    def seen(self, now: datetime) -> Execution:
        """As it is now."""
        seen = Execution(self.execution)
        ended = self._ended(now)
        if now >= self.born + timedelta(seconds=self.life.runs):
            seen.start_time = self.born + timedelta(seconds=self.life.runs)
        if ended is None:
            seen.running_count = 1 if seen.start_time else 0
            seen.reconciling = True
        else:
            seen.completion_time = ended
            seen.cancelled_count = int(self.cancelled is not None)
            seen.failed_count = int(self.cancelled is None and self.life.fails)
            seen.succeeded_count = 1 - seen.cancelled_count - seen.failed_count
        seen.conditions = [self._completed(ended)]
        return seen

    def task(self, now: datetime) -> Task:
        execution = self.execution.name
        task = Task(name=f"{execution}/tasks/task-0", execution=execution, index=0)
        task.create_time = self.born
        ended = self._ended(now)
        task.conditions = [self._completed(ended)]
        if ended is not None:
            task.completion_time = ended
            task.last_attempt_result = TaskAttemptResult(
                exit_code=self.life.exit_code, term_signal=self.life.signal
            )
        return task

    def _ended(self, now: datetime) -> datetime | None:
        if self.cancelled:
            return self.cancelled
        if self.life.ends is None or now < self.born + timedelta(seconds=self.life.ends):
            return None
        return self.born + timedelta(seconds=self.life.ends)

    def _completed(self, ended: datetime | None) -> Condition:
        """The condition is there while it runs, too: only its state tells."""
        if ended is None:
            return Condition(type_="Completed", state=State.CONDITION_RECONCILING)
        if self.cancelled:
            return Condition(
                type_="Completed",
                state=State.CONDITION_FAILED,
                execution_reason=Reason.CANCELLED,
                message="The execution was cancelled.",
            )
        if self.life.fails:
            return Condition(
                type_="Completed",
                state=State.CONDITION_FAILED,
                execution_reason=Reason.NON_ZERO_EXIT_CODE,
                message=self.life.message or "Task failed with message: exit code not 0.",
            )
        return Condition(type_="Completed", state=State.CONDITION_SUCCEEDED)


class FakeRuns:
    """``life``: of the executions started from now on."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.life = ExecutionLife()
        self._clock = clock
        self._jobs: dict[str, Job] = {}
        self._records: dict[str, _Record] = {}
        self._lock = threading.Lock()

    def add_job(self, name: str, job: Job | None = None) -> None:
        """``name``: projects/P/locations/R/jobs/J."""
        kept = Job(job or Job())
        kept.name, kept.create_time = name, self._clock()
        kept.terminal_condition = Condition(type_="Ready", state=State.CONDITION_SUCCEEDED)
        self._jobs[name] = kept

    def start(
        self,
        job: str,
        age_seconds: float = 0.0,
        life: ExecutionLife | None = None,
        overrides: Any = None,
    ) -> Execution:
        """An execution of a job that is there."""
        born = self._clock() - timedelta(seconds=age_seconds)
        with self._lock:
            name = f"{job}/executions/{job.rsplit('/', 1)[1]}-{len(self._records):05d}"
            execution = Execution(name=name, job=job, create_time=born, task_count=1)
            execution.template = self._jobs[job].template.template
            for given in overrides.container_overrides if overrides else ():
                for container in execution.template.containers:
                    container.env.extend(given.env)
            self._records[name] = _Record(execution, born, life or self.life)
            return self._records[name].seen(self._clock())

    def cancel(self, name: str) -> None:
        """As a person does it."""
        self._records[name].cancelled = self._clock()

    def rpcs(self) -> Mapping[type, Mapping[str, Callable[[Any], Any]]]:
        return {
            JobsGrpcTransport: {
                "get_job": lambda request: self._job(request.name),
                "create_job": self._create_job,
                "update_job": self._update_job,
                "run_job": self._run_job,
            },
            ExecutionsGrpcTransport: {
                "list_executions": self._list,
                "get_execution": lambda request: self._record(request.name).seen(self._clock()),
            },
            TasksGrpcTransport: {"list_tasks": self._tasks},
        }

    def _create_job(self, request: Any) -> Operation:
        name = f"{request.parent}/jobs/{request.job_id}"
        if name in self._jobs:
            raise WireError(grpc.StatusCode.ALREADY_EXISTS, f"Resource '{name}' already exists.")
        self.add_job(name, request.job)
        return _done(self._jobs[name])

    def _update_job(self, request: Any) -> Operation:
        self._job(request.job.name)
        self.add_job(request.job.name, request.job)
        return _done(self._jobs[request.job.name])

    def _run_job(self, request: Any) -> Operation:
        """Unfinished as long as the execution runs; its name is there at once."""
        self._job(request.name)
        operation = Operation(name=f"{request.name}/operations/1")
        started = self.start(request.name, overrides=request.overrides)
        operation.metadata.Pack(Execution.pb(started))
        return operation

    def _list(self, request: ListExecutionsRequest) -> ListExecutionsResponse:
        parent, job = request.parent.rsplit("/jobs/", 1)
        prefix = f"{parent}/jobs/" if job == "-" else f"{request.parent}/"
        now = self._clock()
        with self._lock:
            records = [
                made for made in self._records.values() if made.execution.name.startswith(prefix)
            ]
        found = sorted(
            (record.seen(now) for record in records),
            key=lambda made: made.create_time,
            reverse=True,
        )
        rows, token = page(found, request.page_size, request.page_token)
        return ListExecutionsResponse(executions=rows, next_page_token=token)

    def _tasks(self, request: Any) -> ListTasksResponse:
        return ListTasksResponse(tasks=[self._record(request.parent).task(self._clock())])

    def _job(self, name: str) -> Job:
        if name not in self._jobs:
            raise WireError(grpc.StatusCode.NOT_FOUND, f"Resource '{name}' was not found.")
        return self._jobs[name]

    def _record(self, name: str) -> _Record:
        if name not in self._records:
            raise WireError(grpc.StatusCode.NOT_FOUND, f"Resource '{name}' was not found.")
        return self._records[name]


def _done(message: Any) -> Operation:
    operation = Operation(name=f"{message.name}/operations/1", done=True)
    operation.response.Pack(type(message).pb(message))
    return operation
