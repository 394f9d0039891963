"""Vertex AI: our client, Google's client under it, a real socket, a fake Google behind it."""

from datetime import timedelta

import pytest
from google.cloud.aiplatform_v1.types import JobState

from resources.cloud.credentials import Access
from resources.cloud.errors import NotFound, Refused
from resources.cloud.vertex import Vertex
from tests.wire.clock import HandClock
from tests.wire.jobs import Life
from tests.wire.server import FakeGoogle

REGION = "us-central1"
SPEC = {
    "display_name": "train",
    "labels": {"forge_launch": "a1"},
    "job_spec": {
        "worker_pool_specs": [
            {
                "machine_spec": {"machine_type": "n1-standard-4"},
                "replica_count": 1,
                "container_spec": {"image_uri": "image"},
            }
        ]
    },
}


@pytest.fixture
def vertex(demo: Access) -> Vertex:
    return Vertex(demo)


def test_a_job_is_seen_through_its_life(
    google: FakeGoogle, vertex: Vertex, clock: HandClock
) -> None:
    states = JobState
    google.jobs.life = Life(
        (
            (0, states.JOB_STATE_PENDING),
            (2, states.JOB_STATE_RUNNING),
            (8, states.JOB_STATE_FAILED),
        ),
        error="The replica workerpool0-0 ran out of memory",
    )
    job = vertex.create(REGION, SPEC, 5)
    assert (job.state, job.created, job.started, job.is_over) == ("PENDING", clock.now, None, False)

    clock.forward(2)
    running = vertex.get(job.name, 5)
    assert (running.state, running.started) == ("RUNNING", clock.now)

    clock.forward(6)
    failed = vertex.get(job.name, 5)
    assert (failed.state, failed.ended, failed.is_over) == ("FAILED", clock.now, True)
    assert (failed.error_code, failed.error) == (3, "The replica workerpool0-0 ran out of memory")


def test_a_listing_is_a_window_newest_first_over_all_pages(
    google: FakeGoogle, vertex: Vertex, clock: HandClock
) -> None:
    ages = [50, *range(200, 320), 10, 9_000]
    for age in ages:
        google.jobs.add(REGION, age_seconds=age)
    google.jobs.add("us-east1")
    listing = vertex.jobs(REGION, clock.now - timedelta(hours=1), 5)
    seen = [(clock.now - job.created).total_seconds() for job in listing.rows]
    assert seen == sorted(ages[:-1])
    assert listing.missing is None
    assert len(google.named("ListCustomJobs")) == 2


def test_each_region_is_asked_at_its_own_host_over_one_kept_channel(
    google: FakeGoogle, vertex: Vertex, clock: HandClock
) -> None:
    for region in ("us-east1", "europe-west4", "us-east1"):
        vertex.jobs(region, clock.now, 5)
    hosts = [call.host for call in google.calls]
    assert hosts == [
        f"{region}-aiplatform.googleapis.com" for region in ("us-east1", "europe-west4", "us-east1")
    ]
    assert google.calls[0].routing == "parent=projects/demo/locations/us-east1"
    assert len(vertex._connections._channels) == 2


@pytest.mark.parametrize("label", ["forge_launch", "wandb-run-id"])
def test_a_job_is_found_by_its_label_only(
    google: FakeGoogle, vertex: Vertex, clock: HandClock, label: str
) -> None:
    ours = google.jobs.add(REGION, age_seconds=30, labels={label: "a1"})
    again = google.jobs.add(REGION, age_seconds=20, labels={label: "a1"})
    google.jobs.add(REGION, age_seconds=5, labels={label: "b2"})
    google.jobs.add(REGION, age_seconds=5)
    since = clock.now - timedelta(hours=1)
    assert [job.name for job in vertex.find(REGION, label, "a1", since, 5)] == [again, ours]
    assert vertex.find(REGION, label, "c3", since, 5) == []


def test_what_is_no_label_never_reaches_the_filter(vertex: Vertex, clock: HandClock) -> None:
    with pytest.raises(ValueError, match="not a label"):
        vertex.find(REGION, "forge_launch", 'a" OR state="x', clock.now, 5)


def test_a_cancelled_job_is_over(google: FakeGoogle, vertex: Vertex, clock: HandClock) -> None:
    name = google.jobs.add(REGION, age_seconds=30)
    vertex.cancel(name, 5)
    assert vertex.get(name, 5).state == "CANCELLED"
    with pytest.raises(Refused, match="has ended already"):
        vertex.cancel(name, 5)


@pytest.mark.filterwarnings("ignore:Unrecognized JobState")
def test_a_state_without_a_name_is_unknown_and_not_over(google: FakeGoogle, vertex: Vertex) -> None:
    for state in (99, JobState.JOB_STATE_UNSPECIFIED):
        job = vertex.get(google.jobs.add(REGION, life=Life(((0, state),))), 5)
        assert (job.state, job.is_over) == ("UNKNOWN", False)


@pytest.mark.parametrize("state", [state for state in JobState if state.value])
def test_only_final_states_are_over(google: FakeGoogle, vertex: Vertex, state: JobState) -> None:
    job = vertex.get(google.jobs.add(REGION, life=Life(((0, state),))), 5)
    assert f"JOB_STATE_{job.state}" == state.name
    ends = ("SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED")
    assert job.is_over == state.name.endswith(ends)


def test_a_job_that_is_not_there(vertex: Vertex) -> None:
    with pytest.raises(NotFound, match="does not exist"):
        vertex.get(f"projects/demo/locations/{REGION}/customJobs/1", 5)


def test_a_wrong_request_is_refused_in_the_words_of_the_api(vertex: Vertex) -> None:
    with pytest.raises(Refused, match=r"^At least one worker pool is needed\.$"):
        vertex.create(REGION, {"display_name": "empty"}, 5)
