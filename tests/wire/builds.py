"""Cloud Build of the fake Google: builds as a test put them there."""

from collections.abc import Callable, Mapping
from typing import Any

import grpc
from google.cloud.devtools.cloudbuild_v1.services.cloud_build.transports.grpc import (
    CloudBuildGrpcTransport,
)
from google.cloud.devtools.cloudbuild_v1.types import Build, ListBuildsRequest, ListBuildsResponse

from tests.wire.aip_filter import parsed
from tests.wire.faults import WireError
from tests.wire.paging import page


class FakeBuilds:
    def __init__(self) -> None:
        self._builds: list[tuple[str, Build]] = []

    def add(self, region: str, build: Build) -> None:
        """``region`` may be ``global``, where builds without a region are."""
        build.name = f"projects/1234567890/locations/{region}/builds/{build.id}"
        self._builds.append((region, build))

    def rpcs(self) -> Mapping[type, Mapping[str, Callable[[Any], Any]]]:
        return {CloudBuildGrpcTransport: {"list_builds": self._list}}

    def _list(self, request: ListBuildsRequest) -> ListBuildsResponse:
        region = request.parent.rsplit("/", 1)[1]
        wanted = parsed(request.filter, _field)
        found = [build for there, build in self._builds if there == region and wanted(build)]
        rows, token = page(found, request.page_size, request.page_token)
        return ListBuildsResponse(builds=rows, next_page_token=token)


def _field(build: Build, path: tuple[str, ...]) -> Any:
    match path:
        case ("status",):
            return build.status.name
        case ("create_time",):
            return build.create_time
    raise WireError(grpc.StatusCode.INVALID_ARGUMENT, f"Invalid filter field: {'.'.join(path)}")
