"""Builds of Cloud Build."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from resources.cloud.connections import CLOUD_BUILD, Connections
from resources.cloud.credentials import Access
from resources.cloud.listing import Listing, read_pages
from resources.cloud.wire_values import NEVER, enum_name, moment, rfc3339

EVERYWHERE = "global"
"""A region of its own, with the builds that were given none."""

ACTIVE = frozenset({"PENDING", "QUEUED", "WORKING"})

_PAGE_SIZE = 100
_ENOUGH = 1000


@dataclass(frozen=True, slots=True)
class Build:
    """``status``: the API's name, UNKNOWN for one that has none. Times are UTC.

    ``failure_type`` and ``failure``: the API's word and sentence for why it failed, "" for none.
    """

    id: str
    region: str
    status: str
    images: Sequence[str]
    steps_done: int
    steps: int
    created: datetime
    started: datetime | None
    ended: datetime | None
    failure_type: str
    failure: str

    @property
    def is_active(self) -> bool:
        return self.status in ACTIVE


class CloudBuild:
    """One connection, made on first use and kept; Cloud Build has one host for all regions.

    Every call takes ``seconds``, its deadline, and is sent once. It raises CloudError.
    """

    def __init__(self, access: Access) -> None:
        self._connections = Connections(CLOUD_BUILD, access)
        # Here and not in the first call, whose deadline it would eat.
        from google.cloud.devtools.cloudbuild_v1.services.cloud_build import CloudBuildClient
        from google.cloud.devtools.cloudbuild_v1.services.cloud_build.transports.grpc import (
            CloudBuildGrpcTransport,
        )

        self._classes = CloudBuildClient, CloudBuildGrpcTransport

    def builds(self, region: str, since: datetime, seconds: float) -> Listing[Build]:
        """Those created at ``since`` or later, newest first; the newest 1,000 suffice."""
        client = self._connections.client(region, *self._classes)
        project = self._connections.project

        def fetch(token: str, left: float) -> tuple[list[Build], str]:
            request = {
                "parent": f"projects/{project}/locations/{region}",
                "project_id": project,
                "filter": f'create_time>="{rfc3339(since)}"',
                "page_size": _PAGE_SIZE,
                "page_token": token,
            }
            pager = self._connections.call(region, client.list_builds, request, left)
            page = next(iter(pager.pages))
            return [_build(build, region) for build in page.builds], page.next_page_token

        listing = read_pages(fetch, seconds, _ENOUGH)
        rows = sorted(listing.rows, key=lambda build: (build.created, build.id), reverse=True)
        return Listing(tuple(rows), listing.missing)


def _build(build: Any, region: str) -> Build:
    failure = enum_name(build.failure_info.type_, "FAILURE_TYPE_") if build.failure_info else ""
    return Build(
        id=build.id,
        region=region,
        status=enum_name(build.status),
        images=tuple(build.images),
        steps_done=sum(enum_name(step.status) == "SUCCESS" for step in build.steps),
        steps=len(build.steps),
        created=moment(build.create_time) or NEVER,
        started=moment(build.start_time),
        ended=moment(build.finish_time),
        failure_type=failure,
        failure=build.failure_info.detail or build.status_detail,
    )
