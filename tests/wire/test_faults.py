"""Each fault once: what the real client makes of it, and what we say."""

import time
from collections.abc import Callable

import pytest

from resources.cloud.credentials import Access
from resources.cloud.errors import (
    CloudError,
    Denied,
    OverQuota,
    Refused,
    Throttled,
    TimedOut,
    Unavailable,
)
from resources.cloud.vertex import Vertex
from tests.wire import faults
from tests.wire.clock import HandClock
from tests.wire.faults import Fault
from tests.wire.server import FakeGoogle
from tests.wire.test_vertex import REGION, SPEC


@pytest.fixture
def vertex(demo: Access) -> Vertex:
    return Vertex(demo)


@pytest.mark.parametrize(
    ("fault", "kind", "code", "reason", "said"),
    [
        (
            faults.denied,
            Denied,
            "PERMISSION_DENIED",
            "IAM_PERMISSION_DENIED",
            "Permission 'aiplatform.customJobs.list' denied on resource (or it may not exist).",
        ),
        (faults.internal, Unavailable, "INTERNAL", "", "Internal error encountered."),
        (
            faults.unavailable,
            Unavailable,
            "UNAVAILABLE",
            "",
            "The service is currently unavailable.",
        ),
    ],
)
def test_an_error_keeps_the_words_of_the_api(
    google: FakeGoogle,
    vertex: Vertex,
    clock: HandClock,
    fault: Callable[[], Fault],
    kind: type[CloudError],
    code: str,
    reason: str,
    said: str,
) -> None:
    google.faults.add(fault(), "ListCustomJobs", REGION)
    with pytest.raises(CloudError) as caught:
        vertex.jobs(REGION, clock.now, 5)
    error = caught.value
    assert (type(error), error.code, error.reason, str(error)) == (kind, code, reason, said)
    assert len(google.calls) == 1
    assert vertex.jobs("us-east1", clock.now, 5).missing is None


def test_a_429_tells_how_long_to_wait_and_the_call_is_not_repeated_before(
    google: FakeGoogle, vertex: Vertex, clock: HandClock
) -> None:
    google.faults.add(faults.throttled(30.5), "ListCustomJobs", REGION, times=1)
    with pytest.raises(Throttled, match="Quota exceeded") as caught:
        vertex.jobs(REGION, clock.now, 5)
    assert (caught.value.reason, caught.value.retry_after) == ("RATE_LIMIT_EXCEEDED", 30.5)
    with pytest.raises(Throttled, match=f"not asked again in {REGION}"):
        vertex.jobs(REGION, clock.now, 5)
    assert len(google.calls) == 1
    # Only that question in that region.
    vertex.create(REGION, SPEC, 5)
    vertex.jobs("us-east1", clock.now, 5)


def test_a_job_over_quota_is_refused_and_nobody_is_throttled(
    google: FakeGoogle, vertex: Vertex
) -> None:
    google.faults.add(faults.over_quota(), "CreateCustomJob", REGION, times=1)
    with pytest.raises(OverQuota, match="custom_model_training_nvidia_t4_gpus"):
        vertex.create(REGION, SPEC, 5)
    # At once, with another accelerator.
    vertex.create(REGION, SPEC, 5)


def test_a_hung_call_ends_at_its_deadline(
    google: FakeGoogle, vertex: Vertex, clock: HandClock
) -> None:
    google.faults.add(faults.hang(), "ListCustomJobs", REGION)
    began = time.monotonic()
    with pytest.raises(TimedOut):
        vertex.jobs(REGION, clock.now, 0.3)
    assert 0.2 < time.monotonic() - began < 3


def test_latency_within_the_deadline_is_waited_for(
    google: FakeGoogle, vertex: Vertex, clock: HandClock
) -> None:
    google.faults.add(faults.latency(0.1), "ListCustomJobs", REGION)
    began = time.monotonic()
    assert vertex.jobs(REGION, clock.now, 5).missing is None
    assert time.monotonic() - began >= 0.1


@pytest.mark.parametrize(
    ("fault", "seconds", "kind", "made"),
    [
        (faults.lost_answer(), 5, Unavailable, 1),
        (faults.latency(30), 0.5, TimedOut, 1),
        (faults.unavailable(), 5, Unavailable, 0),
        (faults.throttled(), 5, Throttled, 0),
    ],
)
def test_a_create_without_an_answer_is_sent_once_and_can_be_looked_up(
    google: FakeGoogle,
    vertex: Vertex,
    clock: HandClock,
    fault: Fault,
    seconds: float,
    kind: type[CloudError],
    made: int,
) -> None:
    # The connection is there already: the create is on the way when its time is over.
    vertex.jobs(REGION, clock.now, 5)
    google.faults.add(fault, "CreateCustomJob", REGION, times=1)
    with pytest.raises(kind):
        vertex.create(REGION, SPEC, seconds)
    assert len(google.named("CreateCustomJob")) == 1
    assert google.jobs.created.acquire(timeout=5 * made) == bool(made)
    assert len(vertex.find(REGION, "forge_launch", "a1", clock.now, 5)) == made


def test_a_failing_second_page_keeps_the_first(
    google: FakeGoogle, vertex: Vertex, clock: HandClock
) -> None:
    for _ in range(101):
        google.jobs.add(REGION, labels={"forge_launch": "a1"})
    google.faults.add(faults.second_page(), "ListCustomJobs", REGION)
    listing = vertex.jobs(REGION, clock.now, 5)
    assert len(listing.rows) == 100
    assert isinstance(listing.missing, Unavailable)
    # A look-up that must be sure does not take half an answer.
    for label in ("forge_launch", "wandb-run-id"):
        with pytest.raises(Unavailable):
            vertex.find(REGION, label, "a1", clock.now, 5)


def test_a_region_is_refused_at_the_host_of_another(
    google: FakeGoogle, vertex: Vertex, clock: HandClock
) -> None:
    google.faults.add(faults.wrong_region(), "ListCustomJobs", "us-east1", times=1)
    with pytest.raises(Refused, match="location ID doesn't match the endpoint"):
        vertex.jobs("us-east1", clock.now, 5)
    # The rule itself, not planned: the client of one region asks for another.
    client = vertex._connections.client(REGION, *vertex._classes)
    with pytest.raises(Refused, match=f"valid location ID is `{REGION}`"):
        vertex._connections.call(
            REGION, client.list_custom_jobs, {"parent": "projects/demo/locations/us-east1"}, 5
        )


def test_a_server_that_is_not_there(google: FakeGoogle, vertex: Vertex, clock: HandClock) -> None:
    google.close()
    with pytest.raises(Unavailable, match="failed to connect"):
        vertex.jobs(REGION, clock.now, 5)
