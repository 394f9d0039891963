"""Custom jobs of Vertex AI: list, find, get, create, cancel."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from resources.cloud.connections import VERTEX, Connections
from resources.cloud.credentials import Access
from resources.cloud.errors import Refused
from resources.cloud.listing import Listing, read_pages
from resources.cloud.wire_values import NEVER, cut, enum_name, moment, region_of, rfc3339

TERMINAL = frozenset({"SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED", "PARTIALLY_SUCCEEDED"})
"""States after which nothing more happens. PAUSED is none of them, and QUEUED waits for quota."""

_PAGE_SIZE = 100
_LABEL = re.compile(r"[a-z0-9_-]{1,63}")


@dataclass(frozen=True, slots=True)
class Job:
    """``state``: without ``JOB_STATE_``, UNKNOWN for one that has no name. Times are UTC.

    ``error_code`` is gRPC's number, 0 for none; Vertex sets it about a minute after the end.
    """

    name: str
    region: str
    display_name: str
    state: str
    labels: Mapping[str, str]
    created: datetime
    started: datetime | None
    ended: datetime | None
    error_code: int
    error: str

    @property
    def is_over(self) -> bool:
        return self.state in TERMINAL


class Vertex:
    """One connection per region, made on first use and kept.

    Every call takes ``seconds``, its deadline, and is sent once. It raises CloudError.
    """

    def __init__(self, access: Access, clock: Callable[[], float] = time.monotonic) -> None:
        self._connections = Connections(VERTEX, access, clock)
        # Here and not in the first call, whose deadline it would eat.
        from google.cloud.aiplatform_v1.services.job_service import JobServiceClient
        from google.cloud.aiplatform_v1.services.job_service.transports.grpc import (
            JobServiceGrpcTransport,
        )

        self._classes = JobServiceClient, JobServiceGrpcTransport

    def jobs(self, region: str, since: datetime, seconds: float) -> Listing[Job]:
        """Those created at ``since`` or later, newest first: the API promises no order."""
        return self._list(region, f'create_time>="{rfc3339(since)}"', seconds)

    def find(
        self, region: str, label: str, value: str, since: datetime, seconds: float
    ) -> Sequence[Job]:
        """Every job with the label, newest first. A listing that ends half way is raised.

        ``since`` bounds the search for a label with a hyphen, which no filter is known to take:
        leave room for two clocks that differ.
        """
        if not _LABEL.fullmatch(label) or not _LABEL.fullmatch(value):
            raise ValueError(f"not a label: {label}={value}")
        if "-" in label:
            found = self.jobs(region, since, seconds).whole()
        else:
            found = self._list(region, f"labels.{label}={value}", seconds).whole()
        return [job for job in found if job.labels.get(label) == value]

    def get(self, name: str, seconds: float) -> Job:
        return _job(self._call(region_of(name), "get_custom_job", {"name": name}, seconds))

    def create(self, region: str, job: Mapping[str, Any], seconds: float) -> Job:
        """``job``: a CustomJob of the API as nested mappings.

        Not repeated, since the API takes no request id: after Throttled, TimedOut or Unavailable
        the job may exist, and the caller looks for its label first.
        """
        from google.cloud.aiplatform_v1.types import CustomJob

        try:
            request = {"parent": self._parent(region), "custom_job": CustomJob(job)}
        except (KeyError, TypeError, ValueError) as error:
            raise Refused(f"Vertex AI's client does not know {error} of this job") from error
        return _job(self._call(region, "create_custom_job", request, seconds))

    def cancel(self, name: str, seconds: float) -> None:
        """Asks for it; the job goes through CANCELLING."""
        self._call(region_of(name), "cancel_custom_job", {"name": name}, seconds)

    def _list(self, region: str, condition: str, seconds: float) -> Listing[Job]:
        def fetch(token: str, left: float) -> tuple[list[Job], str]:
            request = {
                "parent": self._parent(region),
                "filter": condition,
                "page_size": _PAGE_SIZE,
                "page_token": token,
            }
            pager = self._call(region, "list_custom_jobs", request, left)
            page = next(iter(pager.pages))
            return [_job(job) for job in page.custom_jobs], page.next_page_token

        listing = read_pages(fetch, seconds)
        rows = sorted(listing.rows, key=lambda job: (job.created, job.name), reverse=True)
        return Listing(tuple(rows), listing.missing)

    def _call(self, region: str, method: str, request: Mapping[str, Any], seconds: float) -> Any:
        client = self._connections.client(region, *self._classes)
        return self._connections.call(region, getattr(client, method), request, seconds)

    def _parent(self, region: str) -> str:
        return f"projects/{self._connections.project}/locations/{region}"


def _job(job: Any) -> Job:
    return Job(
        name=job.name,
        region=region_of(job.name),
        display_name=job.display_name,
        state=enum_name(job.state, "JOB_STATE_"),
        labels=dict(job.labels),
        created=moment(job.create_time) or NEVER,
        started=moment(job.start_time),
        ended=moment(job.end_time),
        error_code=job.error.code,
        error=cut(job.error.message),
    )
