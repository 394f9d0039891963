"""Cloud Run: our client, Google's client under it, a real socket, a fake Google behind it."""

from datetime import timedelta

import pytest

from resources.cloud.cloud_run import CloudRun, TaskEnd
from resources.cloud.credentials import Access
from resources.cloud.errors import NotFound, Refused, Unavailable
from tests.wire import faults
from tests.wire.clock import HandClock
from tests.wire.runs import ExecutionLife
from tests.wire.server import FakeGoogle

REGION = "us-central1"
SPEC = {
    "labels": {"forge": "runner"},
    "template": {
        "labels": {"forge_queue": "gpu-queue"},
        "template": {"containers": [{"image": "runner@sha256:1", "args": ["-q", "gpu-queue"]}]},
    },
}


@pytest.fixture
def run(demo: Access) -> CloudRun:
    return CloudRun(demo)


@pytest.fixture
def job(run: CloudRun) -> str:
    run.create_job(REGION, "runner", SPEC, 5)
    return run.job_name(REGION, "runner")


def test_the_runner_job_is_made_read_and_changed(run: CloudRun, job: str) -> None:
    made = run.job(job, 5)
    assert (made.name, made.labels) == (job, {"forge": "runner"})
    assert (made.image, made.state) == ("runner@sha256:1", "SUCCEEDED")
    run.update_job(job, {"template": {"template": {"containers": [{"image": "runner:2"}]}}}, 5)
    assert run.job(job, 5).image == "runner:2"
    with pytest.raises(Refused, match="already exists"):
        run.create_job(REGION, "runner", SPEC, 5)
    with pytest.raises(NotFound):
        run.job(run.job_name(REGION, "other"), 5)


def test_a_start_names_its_execution_at_once_and_it_is_seen_to_fail(
    google: FakeGoogle, run: CloudRun, job: str, clock: HandClock
) -> None:
    google.runs.life = ExecutionLife(
        runs=2, ends=8, exit_code=2, message="Container called exit(2)."
    )
    started = run.run(job, {}, 5)
    assert started.name.startswith(f"{job}/executions/runner-")
    assert (started.job, started.args, started.state) == ("runner", ("-q", "gpu-queue"), "PENDING")
    assert run.task_ends(started.name, 5) == []

    clock.forward(2)
    assert run.execution(started.name, 5).state == "RUNNING"

    clock.forward(6)
    ended = run.execution(started.name, 5)
    assert (ended.state, ended.ended, ended.is_over) == ("FAILED", clock.now, True)
    assert (ended.reason, ended.message) == ("NON_ZERO_EXIT_CODE", "Container called exit(2).")
    assert run.task_ends(started.name, 5) == [TaskEnd(0, exit_code=2, signal=0, message="")]


def test_a_killed_task_tells_its_signal(google: FakeGoogle, run: CloudRun, job: str) -> None:
    killed = google.runs.start(job, age_seconds=60, life=ExecutionLife(ends=30, signal=9))
    assert run.task_ends(killed.name, 5) == [TaskEnd(0, exit_code=0, signal=9, message="")]


def test_a_cancelled_execution_did_not_fail(google: FakeGoogle, run: CloudRun, job: str) -> None:
    name = google.runs.start(job, age_seconds=60).name
    google.runs.cancel(name)
    ended = run.execution(name, 5)
    assert (ended.state, ended.reason) == ("CANCELLED", "CANCELLED")


def test_a_start_without_an_answer_is_sent_once_and_can_be_looked_up(
    google: FakeGoogle, run: CloudRun, job: str, clock: HandClock
) -> None:
    google.faults.add(faults.lost_answer(), "RunJob", times=1)
    with pytest.raises(Unavailable):
        run.run(job, {}, 5)
    assert len(google.named("RunJob")) == 1
    assert len(run.executions(REGION, clock.now, 5).rows) == 1


def test_executions_of_all_jobs_newest_first_and_no_page_behind_the_window(
    google: FakeGoogle, run: CloudRun, job: str, clock: HandClock
) -> None:
    other = run.job_name(REGION, "other")
    google.runs.add_job(other)
    ended = ExecutionLife(ends=5)
    for age in range(100, 400):
        google.runs.start(job, age_seconds=age, life=ended)
    google.runs.start(other, age_seconds=10)
    google.runs.start(other, age_seconds=5_000, life=ended)
    listing = run.executions(REGION, clock.now - timedelta(seconds=150), 5)
    ages = [(clock.now - row.created).total_seconds() for row in listing.rows]
    assert ages == [10, *range(100, 151)]
    assert [row.state for row in listing.rows] == ["RUNNING"] + 51 * ["SUCCEEDED"]
    assert len(google.named("ListExecutions")) == 1
    assert google.calls[-1].host == "run.googleapis.com"
