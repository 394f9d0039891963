"""Cloud Build and Cloud Logging: our clients, Google's under them, a fake Google behind a socket."""

from datetime import timedelta

import pytest
from google.cloud.devtools.cloudbuild_v1.types import Build

from resources.cloud.cloud_build import EVERYWHERE, CloudBuild
from resources.cloud.credentials import Access
from resources.cloud.errors import Denied, Throttled
from resources.cloud.logs import Logs, of_execution, of_job
from tests.wire import faults
from tests.wire.clock import HandClock
from tests.wire.server import FakeGoogle

Kind = Build.FailureInfo.FailureType


@pytest.fixture
def logs(demo: Access) -> Logs:
    return Logs(demo)


def test_builds_of_a_region_and_of_none(google: FakeGoogle, demo: Access, clock: HandClock) -> None:
    hour = timedelta(hours=1)
    failed = Build(id="f", status=Build.Status.FAILURE, create_time=clock.now - hour / 2)
    failed.failure_info = Build.FailureInfo(type_=Kind.PUSH_NOT_AUTHORIZED, detail="denied")
    working = Build(id="w", status=Build.Status.WORKING, create_time=clock.now, images=["trainer"])
    working.steps = [{"status": Build.Status.SUCCESS}, {"status": Build.Status.WORKING}]
    google.builds.add("us-east1", failed)
    google.builds.add("us-east1", working)
    google.builds.add("us-east1", Build(id="old", create_time=clock.now - 2 * hour))
    google.builds.add(EVERYWHERE, Build(id="g", create_time=clock.now))

    build = CloudBuild(demo)
    newest, older = build.builds("us-east1", clock.now - hour, 5).rows
    assert (newest.id, newest.status, newest.is_active) == ("w", "WORKING", True)
    assert (newest.images, newest.steps_done, newest.steps) == (("trainer",), 1, 2)
    assert (older.id, older.is_active) == ("f", False)
    assert (older.failure_type, older.failure) == ("PUSH_NOT_AUTHORIZED", "denied")
    assert [row.id for row in build.builds(EVERYWHERE, clock.now - hour, 5).rows] == ["g"]
    google.faults.add(faults.denied("cloudbuild.builds.list"), "ListBuilds", "us-east1")
    with pytest.raises(Denied, match=r"cloudbuild\.builds\.list"):
        build.builds("us-east1", clock.now, 5)


def test_all_three_payloads_of_one_execution_oldest_first(
    google: FakeGoogle, logs: Logs, clock: HandClock
) -> None:
    second = timedelta(seconds=1)
    google.logs.add_audit(clock.now, "Execution runner-1 has failed to complete", "runner-1")
    google.logs.add_text(clock.now - second, "Container called exit(2).", "runner-1")
    google.logs.add_text(clock.now - second, "not ours", "runner-2")
    google.logs.add_text(clock.now - 90 * second, "too old", "runner-1")
    google.logs.add_text(clock.now + second, "too new", "runner-1")
    condition = of_execution("projects/demo/locations/us-central1/jobs/runner/executions/runner-1")
    listing = logs.entries(condition, clock.now - 60 * second, clock.now, 100, 5)
    assert [entry.text for entry in listing.rows] == [
        "Container called exit(2).",
        "Execution runner-1 has failed to complete",
    ]
    assert listing.rows[0].at == clock.now - second


def test_the_lines_of_a_job_by_worker(google: FakeGoogle, logs: Logs, clock: HandClock) -> None:
    google.logs.add_json(clock.now, "from one", "42", "workerpool0-0")
    google.logs.add_json(clock.now, "from two", "42", "workerpool1-0")
    google.logs.add_json(clock.now, "not ours", "43")
    condition = of_job("projects/1/locations/us-east1/customJobs/42")
    rows = logs.entries(condition, clock.now, clock.now, 100, 5).rows
    assert [entry.text for entry in rows] == ["from one", "from two"]
    assert rows[0].writer != rows[1].writer


def test_the_newest_entries_are_kept_over_pages(
    google: FakeGoogle, logs: Logs, clock: HandClock
) -> None:
    for number in range(1_500):
        google.logs.add_text(clock.now + timedelta(milliseconds=number), str(number), "runner-1")
    until = clock.now + timedelta(hours=1)
    condition = of_execution("runner-1")
    rows = logs.entries(condition, clock.now, until, 1_200, 5).rows
    assert [entry.text for entry in rows] == [str(number) for number in range(300, 1_500)]
    assert len(google.calls) == 2
    google.faults.add(faults.second_page(), "ListLogEntries")
    half = logs.entries(condition, clock.now, until, 1_200, 5)
    assert (len(half.rows), half.missing is None) == (1_000, False)
    # The client library would have asked again and again.
    assert len(google.calls) == 4


def test_reads_stop_at_our_own_limit_before_google_counts_sixty(
    google: FakeGoogle, demo: Access, clock: HandClock
) -> None:
    logs = Logs(demo, lambda: 0.0)
    for _ in range(20):
        logs.entries(of_job("1"), clock.now, clock.now, 10, 5)
    with pytest.raises(Throttled, match="Cloud Logging is not asked again") as caught:
        logs.entries(of_job("1"), clock.now, clock.now, 10, 5)
    assert len(google.calls) == 20
    assert caught.value.retry_after == 3
