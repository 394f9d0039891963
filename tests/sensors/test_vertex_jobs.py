"""`vertex_job_sensor`: every launch's end reaches Dagster once, whatever dies in between."""

import json
import threading
import time
from datetime import timedelta

import pytest
from google.cloud.aiplatform_v1.types import JobState

from resources.cloud.credentials import access
from resources.cloud.vertex import Vertex
from sensors import vertex_jobs
from sensors.cursor import read_cursor
from sensors.tick import OPEN_SECONDS
from sensors.vertex_jobs import POLL_SECONDS, launch_of, poll, state_of
from tests.sensors.rig import OTHER, PAST_THE_LAUNCHER, REGION, Rig, life
from tests.wire import faults
from tests.wire.server import FakeGoogle

S = JobState
RUNS = ((0, S.JOB_STATE_PENDING), (10, S.JOB_STATE_RUNNING))
FAILS = life(*RUNS, (60, S.JOB_STATE_FAILED), error="Replica workerpool0-0 exited with 1")


def test_a_launch_that_was_killed_after_its_create_is_reported(rig: Rig) -> None:
    launch = rig.begun()
    job = rig.job_of(launch.id, age_seconds=20, life=life(*RUNS))
    rig.tick()
    kept = rig.kept(launch.id)
    assert (kept.state, kept.job_name, kept.reported) == ("running", job, "")
    assert rig.told() == []

    rig.clock.forward(PAST_THE_LAUNCHER)
    rig.tick()
    (told,) = rig.told()
    assert told.state == ("materialized", "running")
    assert told.metadata["launch"] == str(launch.id)
    assert (told.metadata["resource"], told.metadata["region"]) == (job, REGION)
    assert told.metadata["age_seconds"] > PAST_THE_LAUNCHER / 2
    assert rig.kept(launch.id).reported == "running"


def test_what_forge_launch_reported_is_not_told_again(rig: Rig) -> None:
    launch = rig.begun("running")
    job = rig.job_of(launch.id, life=life(*RUNS, (300, S.JOB_STATE_SUCCEEDED)))
    rig.store.change(launch.id, "found", job_name=job)
    assert (rig.report(launch.id), rig.report(launch.id)) == (1, 0)
    rig.clock.forward(PAST_THE_LAUNCHER)
    rig.tick()
    rig.clock.forward(PAST_THE_LAUNCHER)
    rig.tick()
    rig.tick()
    assert rig.states() == [("materialized", "running"), ("observed", "succeeded")]
    assert rig.report(launch.id) == 0


def test_two_reporters_at_once_tell_it_once(rig: Rig) -> None:
    launch = rig.begun("running", job_name=f"projects/1/locations/{REGION}/customJobs/1")
    threads = [threading.Thread(target=rig.report, args=(launch.id,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rig.states() == [("materialized", "running")]


def test_a_time_out_that_came_good_becomes_a_submission(rig: Rig) -> None:
    launch = rig.begun("timeout", reason="no job was seen within 120 s")
    rig.report(launch.id)
    rig.job_of(launch.id, life=life(*RUNS))
    rig.clock.forward(30)
    rig.tick()
    rig.clock.forward(PAST_THE_LAUNCHER)
    rig.tick()
    assert rig.states() == [("observed", "timeout"), ("materialized", "running")]
    assert rig.kept(launch.id).reason is None


def test_a_tick_that_is_repeated_tells_nothing_twice(rig: Rig) -> None:
    ours = rig.begun("running")
    rig.job_of(ours.id, life=FAILS)
    rig.google.jobs.add(REGION, labels={"forge_launch": "0" * 32}, life=life(*RUNS))
    rig.clock.forward(PAST_THE_LAUNCHER)
    for _ in range(3):
        rig.tick(keep=False)
        rig.restart()
    rig.clock.forward(PAST_THE_LAUNCHER)
    requested = [rig.tick(keep=False).run_requests for _ in range(2)]
    keys = {request.run_key for each in requested for request in each or ()}
    assert len(keys) == 1
    assert rig.states() == [("materialized", "failed"), ("observed", "failed"), ("observed", None)]


def test_a_failure_is_told_at_once_and_diagnosed_when_its_error_is_there(rig: Rig) -> None:
    launch = rig.begun("running")
    job = rig.job_of(launch.id, life=FAILS)
    rig.store.change(launch.id, "found", job_name=job)
    rig.report(launch.id)
    rig.clock.forward(61)
    assert rig.tick().run_requests == []
    assert rig.states()[-1] == ("observed", "failed")
    assert rig.told()[-1].metadata["reason"] == "Replica workerpool0-0 exited with 1"

    rig.clock.forward(60)
    (request,) = rig.tick().run_requests or ()
    assert request.run_key == job
    config = {"resource": job, "region": REGION, "kind": "job"}
    assert request.run_config == {"ops": {"diagnose": {"config": config}}}
    assert request.tags["forge/launch"] == str(launch.id)
    rig.clock.forward(60)
    assert rig.tick().run_requests == []


@pytest.mark.parametrize(
    ("state", "kept", "is_diagnosed"),
    [
        (S.JOB_STATE_SUCCEEDED, "succeeded", False),
        (S.JOB_STATE_CANCELLED, "cancelled", False),
        (S.JOB_STATE_EXPIRED, "expired", True),
        (S.JOB_STATE_PARTIALLY_SUCCEEDED, "partially_succeeded", True),
    ],
)
def test_every_end_is_an_end(rig: Rig, state: JobState, kept: str, is_diagnosed: bool) -> None:
    launch = rig.begun("running")
    rig.job_of(launch.id, life=life(*RUNS, (20, state)))
    rig.clock.forward(PAST_THE_LAUNCHER)
    result = rig.tick()
    assert rig.kept(launch.id).state == kept
    assert rig.states() == [] or rig.states()[-1] == ("observed", kept)
    assert bool(result.run_requests) is is_diagnosed
    assert rig.kept(launch.id).is_over


@pytest.mark.filterwarnings("ignore:Unrecognized JobState")
def test_a_state_that_nobody_knows_is_no_success_and_is_watched_on(rig: Rig) -> None:
    launch = rig.begun("running")
    rig.job_of(launch.id, life=life(*RUNS, (20, 99), (400, S.JOB_STATE_SUCCEEDED)))
    rig.clock.forward(60)
    rig.tick()
    assert rig.kept(launch.id).state == "unknown"
    assert "none of the known" in (rig.kept(launch.id).reason or "")
    rig.clock.forward(3600)
    rig.tick()
    assert rig.kept(launch.id).state == "succeeded"
    assert state_of("CANCELLING") == "running"
    assert state_of("PAUSED") == "unknown"


def test_a_job_is_known_by_its_name_or_its_run_too(rig: Rig) -> None:
    by_run = rig.begun("timeout", wandb_run="x1y2")
    named = rig.begun("running")
    job = rig.google.jobs.add(REGION, age_seconds=90_000, life=life(*RUNS))
    rig.store.change(named.id, "found", job_name=job)
    rig.google.jobs.add(REGION, labels={"wandb-run-id": "x1y2"}, life=life(*RUNS))
    rig.google.jobs.add(REGION, labels={"wandb-run-id": "other"}, life=life(*RUNS))
    rig.clock.forward(60)
    result = rig.tick()
    assert rig.kept(by_run.id).state == "running"
    assert len(read_cursor(result.cursor).known) == 2


def test_a_job_of_another_database_is_observed_and_not_adopted(rig: Rig) -> None:
    stranger = "5" * 32
    rig.google.jobs.add(REGION, labels={"forge_launch": stranger}, life=FAILS)
    rig.google.jobs.add(REGION, labels={"forge_launch": "no-uuid"}, life=life(*RUNS))
    rig.google.jobs.add(REGION, life=life(*RUNS))
    for _ in range(4):
        rig.clock.forward(60)
        assert rig.tick().run_requests == []
    seen = [(told.kind, told.metadata["job_state"]) for told in rig.told()]
    assert seen == [("observed", "FAILED")]
    assert rig.told()[0].metadata["launch"].replace("-", "") == stranger
    assert rig.store.recent(5, "demo") == []


def test_a_second_job_of_a_launch_is_a_warning(rig: Rig) -> None:
    launch = rig.begun()
    first = rig.job_of(launch.id, age_seconds=30, life=life(*RUNS))
    rig.job_of(launch.id, age_seconds=20, life=life((0, S.JOB_STATE_FAILED)))
    rig.tick()
    rig.tick()
    kept = rig.kept(launch.id)
    assert (kept.state, kept.job_name) == ("running", first)
    (told,) = rig.told()
    assert told.metadata["severity"] == "warning"
    assert "second job" in told.metadata["note"]


def test_a_job_that_ran_after_its_launch_was_given_up_is_a_warning(rig: Rig) -> None:
    launch = rig.begun("runner_failed")
    rig.job_of(launch.id, life=life(*RUNS))
    rig.tick()
    assert rig.kept(launch.id).state == "runner_failed"
    assert "ended as runner_failed" in rig.told()[0].metadata["note"]


def test_a_job_that_is_gone_leaves_its_launch_unknown(rig: Rig) -> None:
    launch = rig.begun("running", job_name=f"projects/1/locations/{REGION}/customJobs/77")
    rig.tick()
    kept = rig.kept(launch.id)
    assert (kept.state, kept.reason) == ("unknown", "Vertex AI has no such job any more")
    rig.tick()
    assert [event.kind for event in rig.store.events(launch.id)].count("gone") == 1


def test_a_region_that_hangs_does_not_stop_the_others(
    rig: Rig, google: FakeGoogle, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert POLL_SECONDS + OPEN_SECONDS < 20
    monkeypatch.setattr(vertex_jobs, "POLL_SECONDS", 2.0)
    launch = rig.begun()
    rig.job_of(launch.id, region=OTHER, life=life(*RUNS))
    rig.tick()
    google.faults.add(faults.hang(), "ListCustomJobs", region=REGION)
    missed = rig.begun()
    rig.job_of(missed.id, life=life(*RUNS))
    before = read_cursor(rig.cursors["vertex_job_sensor"]).read_until
    rig.clock.forward(3600)
    began = time.monotonic()
    result = rig.tick()
    assert time.monotonic() - began < 5
    assert "1 regions not read whole" in str(result.skip_reason)
    assert rig.kept(launch.id).state == "running"
    after = read_cursor(result.cursor).read_until
    assert (after[REGION], after[OTHER]) == (before[REGION], rig.clock.now)

    google.faults.clear()
    rig.clock.forward(3600)
    rig.tick()
    assert rig.kept(missed.id).state == "running"


def test_no_region_at_all_keeps_the_cursor(rig: Rig, google: FakeGoogle) -> None:
    rig.tick()
    google.faults.add(faults.denied())
    message = rig.skipped()
    assert message.startswith(f"no region could be read: {REGION} (denied): Permission")


@pytest.mark.parametrize(
    "cursor", ["", "garbage", "[1]", '{"version": 7}', '{"known": {"x": {"state": 3}}}', "\ud800"]
)
def test_a_cursor_that_says_nothing_is_as_none(rig: Rig, cursor: str) -> None:
    launch = rig.begun("running")
    rig.job_of(launch.id, life=FAILS)
    rig.clock.forward(PAST_THE_LAUNCHER)
    rig.tick()
    told = rig.states()
    rig.cursors["vertex_job_sensor"] = cursor
    rig.tick()
    assert rig.states() == told
    assert read_cursor(rig.cursors["vertex_job_sensor"]).read_until[REGION] == rig.clock.now


def test_a_cursor_from_the_future_hides_nothing(rig: Rig) -> None:
    later = (rig.clock.now + timedelta(days=900)).isoformat()
    rig.cursors["vertex_job_sensor"] = json.dumps({"version": 1, "read_until": {REGION: later}})
    launch = rig.begun()
    rig.job_of(launch.id, life=life(*RUNS))
    rig.tick()
    assert rig.kept(launch.id).state == "pending"


def test_many_jobs_leave_a_cursor_of_bounded_size(google: FakeGoogle, rig: Rig) -> None:
    for number in range(620):
        labels = {"forge_launch": f"{number:032x}"}
        google.jobs.add(REGION, age_seconds=number * 0.9, labels=labels)
    client = Vertex(access("demo", google.environment))
    polled = poll(client, None, rig.clock.now, [REGION], [], 10)
    assert polled.cursor is not None
    assert (len(polled.seen), len(polled.cursor.known)) == (620, 500)
    assert len(polled.cursor.text()) < 100_000
    again = poll(client, polled.cursor.text(), rig.clock.now, [REGION], [], 10)
    assert len(again.changed) == 120


def test_pending_jobs_are_asked_for_by_name_a_few_at_a_time(google: FakeGoogle, rig: Rig) -> None:
    client = Vertex(access("demo", google.environment), lambda: rig.clock().timestamp())
    for number in range(30):
        labels = {"forge_launch": f"{number:032x}"}
        google.jobs.add(REGION, age_seconds=600, labels=labels, life=life(*RUNS))
    cursor: str | None = None
    asked = set()
    for _ in range(4):
        polled = poll(client, cursor, rig.clock.now, [REGION], [], 10)
        assert polled.cursor is not None
        cursor = polled.cursor.text()
        assert polled.unread == ()
        rig.clock.forward(1200)
        asked |= {call.request.name for call in google.named("GetCustomJob")}
    assert len(google.named("GetCustomJob")) <= 60
    assert len(asked) == 30


def test_a_label_is_ours_only_when_it_is_an_id(google: FakeGoogle, rig: Rig) -> None:
    client = Vertex(access("demo", google.environment))
    for value in ("a1", "z" * 32, ""):
        job = client.get(google.jobs.add(REGION, labels={"forge_launch": value}), 5)
        assert launch_of(job) is None
