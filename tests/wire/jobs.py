"""JobService of the fake Google: custom jobs that live as scripted."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
from google.cloud.aiplatform_v1.services.job_service.transports.grpc import JobServiceGrpcTransport
from google.cloud.aiplatform_v1.types import (
    CustomJob,
    JobState,
    ListCustomJobsRequest,
    ListCustomJobsResponse,
)
from google.protobuf.empty_pb2 import Empty
from google.rpc.status_pb2 import Status

from tests.wire.aip_filter import parsed
from tests.wire.faults import WireError
from tests.wire.paging import page

# Vertex AI answers with the project's number, whichever name it was asked by.
PROJECT_NUMBER = "1234567890"
OVER = (
    JobState.JOB_STATE_SUCCEEDED,
    JobState.JOB_STATE_FAILED,
    JobState.JOB_STATE_CANCELLED,
    JobState.JOB_STATE_EXPIRED,
    JobState.JOB_STATE_PARTIALLY_SUCCEEDED,
)


@dataclass(frozen=True)
class Life:
    """``states``: seconds after the create and the state from then on; a number for one to come."""

    states: Sequence[tuple[float, JobState | int]] = (
        (0, JobState.JOB_STATE_PENDING),
        (2, JobState.JOB_STATE_RUNNING),
    )
    error: str = ""
    """Of the state FAILED, gRPC's code 3."""


@dataclass
class _Record:
    job: CustomJob
    region: str
    born: datetime
    life: Life
    cancelled: datetime | None = None

    def seen(self, now: datetime) -> CustomJob:
        """As it is now."""
        seen = CustomJob(self.job)
        for after, state in self.life.states:
            at = self.born + timedelta(seconds=after)
            if at > now:
                break
            _enter(seen, state, at)
        if self.cancelled and seen.state not in OVER:
            _enter(seen, JobState.JOB_STATE_CANCELLED, self.cancelled)
        if seen.state == JobState.JOB_STATE_FAILED:
            seen.error = Status(code=3, message=self.life.error)
        return seen


def _enter(job: CustomJob, state: JobState | int, at: datetime) -> None:
    job.state, job.update_time = state, at
    if state == JobState.JOB_STATE_RUNNING:
        job.start_time = at
    if state in OVER:
        job.end_time = at


class FakeJobs:
    """``life``: of the jobs created from now on."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.life = Life()
        self.created = threading.Semaphore(0)
        """Released by every create, also by one whose caller has gone."""
        self._clock = clock
        self._records: list[_Record] = []
        self._lock = threading.Lock()

    def add(
        self,
        region: str,
        age_seconds: float = 0.0,
        life: Life | None = None,
        display_name: str = "job",
        labels: Mapping[str, str] | None = None,
    ) -> str:
        """A job that somebody else created; its name."""
        born = self._clock() - timedelta(seconds=age_seconds)
        job = CustomJob(display_name=display_name, labels=labels or {})
        return self._keep(job, region, born, life or self.life).name

    def all(self, region: str) -> list[CustomJob]:
        now = self._clock()
        with self._lock:
            return [record.seen(now) for record in self._records if record.region == region]

    def rpcs(self) -> Mapping[type, Mapping[str, Callable[[Any], Any]]]:
        return {
            JobServiceGrpcTransport: {
                "create_custom_job": self._create,
                "get_custom_job": lambda request: self._record(request.name).seen(self._clock()),
                "list_custom_jobs": self._list,
                "cancel_custom_job": self._cancel,
            }
        }

    def _create(self, request: Any) -> CustomJob:
        if not request.custom_job.job_spec.worker_pool_specs:
            raise WireError(grpc.StatusCode.INVALID_ARGUMENT, "At least one worker pool is needed.")
        region = request.parent.rsplit("/", 1)[1]
        made = self._keep(request.custom_job, region, self._clock(), self.life)
        self.created.release()
        return made

    def _keep(self, job: CustomJob, region: str, born: datetime, life: Life) -> CustomJob:
        with self._lock:
            number = 9_000_000_000 + len(self._records)
            job.name = f"projects/{PROJECT_NUMBER}/locations/{region}/customJobs/{number}"
            job.create_time = born.astimezone(UTC)
            self._records.append(_Record(job, region, born, life))
            return self._records[-1].seen(self._clock())

    def _list(self, request: ListCustomJobsRequest) -> ListCustomJobsResponse:
        wanted = parsed(request.filter, _field)
        # As they were made: the real one promises no order either.
        jobs = [job for job in self.all(request.parent.rsplit("/", 1)[1]) if wanted(job)]
        rows, token = page(jobs, request.page_size, request.page_token)
        return ListCustomJobsResponse(custom_jobs=rows, next_page_token=token)

    def _cancel(self, request: Any) -> Empty:
        record = self._record(request.name)
        if record.seen(self._clock()).state in OVER:
            raise WireError(grpc.StatusCode.FAILED_PRECONDITION, "The CustomJob has ended already.")
        record.cancelled = self._clock()
        return Empty()

    def _record(self, name: str) -> _Record:
        tail = name.split("/locations/", 1)[-1]
        with self._lock:
            for record in self._records:
                if record.job.name.endswith(f"/locations/{tail}"):
                    return record
        raise WireError(grpc.StatusCode.NOT_FOUND, f"The CustomJob does not exist: {name}")


def _field(job: CustomJob, path: tuple[str, ...]) -> Any:
    match path:
        case ("labels", key):
            return job.labels.get(key)
        case ("state",):
            return getattr(job.state, "name", str(job.state))
        case ("display_name" | "create_time" as name,):
            return getattr(job, name)
    raise WireError(grpc.StatusCode.INVALID_ARGUMENT, f"Invalid filter field: {'.'.join(path)}")
