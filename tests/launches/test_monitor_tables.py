"""The six tables: what stands in which cell, in which order, and how many rows there are."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, timedelta
from typing import Any

import pytest
from google.cloud.aiplatform_v1.types import JobState
from google.cloud.devtools.cloudbuild_v1.types import Build

from forge_assets.launches.monitor.explained import Told
from forge_assets.launches.monitor.reads import Picked
from forge_assets.launches.monitor.runner_executions import runner_executions
from forge_assets.launches.monitor.shown import cell_text, heading, local_time
from forge_assets.launches.monitor.table import RegionState, Table
from forge_assets.launches.monitor.tables import TABLES
from forge_assets.launches.monitor.wandb_runs import ACTIVE_READ
from resources.cloud.cloud_build import EVERYWHERE
from tests.launches.monitored import REGIONS, Monitored
from tests.wire import http_faults
from tests.wire.clock import HandClock
from tests.wire.jobs import Life
from tests.wire.runs import ExecutionLife
from tests.wire.server import FakeGoogle
from tests.wire.wandb_queues import NOBODY, ItemLife
from tests.wire.wandb_server import FakeWandb

MACHINE = 'wandb: ERROR 400 Machine type "a3-highgpu-1g" is not supported.'


@pytest.fixture
def make(google: FakeGoogle, wandb: FakeWandb, clock: HandClock) -> Callable[..., Monitored]:
    wandb.runs.add("team", "vision", "old", "finished", age_seconds=9_000, seconds=60)
    return lambda **config: Monitored(google, wandb, clock, **config)


@pytest.fixture
def cloud(make: Callable[..., Monitored]) -> Monitored:
    return make()


def shown(table: Table, cloud: Monitored) -> list[list[str]]:
    """As on a terminal."""
    now = cloud.clock.now
    return [[cell_text(row, column, now) for column in table.columns] for row in table.rows]


def of(rows: list[dict[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in rows]


def test_every_table_is_there_and_whole_when_nothing_runs(cloud: Monitored) -> None:
    snapshot = cloud.read()
    assert tuple(table.name for table in snapshot.tables) == TABLES
    assert snapshot.complete
    assert [len(table.rows) for table in snapshot.tables] == [0, 0, 0, 0, 0, 1]


def test_an_execution_from_its_start_to_its_end(cloud: Monitored) -> None:
    job = cloud.runner("launch-agent", "-q", "vertex")
    name = cloud.execution(job, life=ExecutionLife(runs=5, ends=3_600))
    titles = [column.title for column in cloud.table("runner_executions").columns]
    assert titles == [
        "Execution",
        "Queue",
        "Region",
        "Status",
        "Runs",
        "Lifetime",
        "Created",
        "Note",
    ]
    created = local_time(cloud.clock.now)
    (row,) = shown(cloud.table("runner_executions"), cloud)
    region = REGIONS[0]
    assert row == [name, "vertex", region, "PENDING", "—", "—", created, "Starting..."]
    cloud.google.logs.add_text(cloud.clock.now, "Runs: 2", name)
    cloud.clock.forward(65)
    (row,) = shown(cloud.table("runner_executions"), cloud)
    assert row == [name, "vertex", region, "RUNNING", "2", "1m 0s", created, "Running..."]
    cloud.clock.forward(3_600)
    (row,) = shown(cloud.table("runner_executions"), cloud)
    assert row[3:6] == ["FINISHED", "2", "59m 55s"]
    assert row[7] == "Completed: 2 jobs"


def test_the_note_is_what_the_runner_said_of_its_end(cloud: Monitored) -> None:
    job = cloud.runner("-q", "vertex")
    name = cloud.execution(job, age_seconds=600, life=ExecutionLife(ends=60))
    ended = {"forge_runner": 1, "event": "ended", "reason": "stopped", "runs": 1}
    cloud.google.logs.add_text(cloud.clock.now, json.dumps(ended), name)
    (row,) = cloud.rows("runner_executions")
    assert (row["runs"], row["note"]) == (1, "Stopped after 1 job")


def test_the_five_newest_executions_of_all_regions(cloud: Monitored) -> None:
    jobs = [cloud.runner("-q", "vertex", region=region) for region in REGIONS]
    ended = ExecutionLife(ends=5)
    for age in range(100, 700, 100):
        cloud.execution(jobs[age // 100 % 2], age_seconds=age, life=ended)
    table = cloud.table("runner_executions")
    ages = [cloud.clock.now - row.cells["created"] for row in table.rows]
    assert [age.total_seconds() for age in ages] == [100, 200, 300, 400, 500]
    assert table.found == 6


@pytest.mark.parametrize(
    "args", [("-q", "gpu"), ("--queue", "gpu"), ("--queue=gpu",), ("-e", "team", "-q", "gpu")]
)
def test_an_execution_names_its_queue(cloud: Monitored, args: tuple[str, ...]) -> None:
    cloud.execution(cloud.runner(*args))
    assert of(cloud.rows("runner_executions"), "queue") == ["gpu"]


def test_jobs_that_run_no_agent_are_not_shown_beside_the_configured_runner(
    make: Callable[..., Monitored],
) -> None:
    cloud = make()
    foreign = cloud.execution(cloud.runner("serve", job="web"))
    other = cloud.execution(cloud.runner("-q", "other", job="agent"))
    own = cloud.execution(cloud.runner(job="runner"))
    assert set(of(cloud.rows("runner_executions"), "execution")) == {other, own}
    rows = make(runner=None).rows("runner_executions")
    assert set(of(rows, "execution")) == {foreign, other, own}


def test_a_failed_execution_tells_why_with_the_log_around_it(cloud: Monitored) -> None:
    job = cloud.runner("-q", "vertex")
    life = ExecutionLife(ends=8, exit_code=1, message="Container called exit(1).")
    name = cloud.execution(job, age_seconds=3_600, life=life)
    at = cloud.clock.now - timedelta(seconds=3_595)
    for text in ("starting", MACHINE, "Traceback follows"):
        cloud.google.logs.add_text(at, text, name)
    (row,) = cloud.rows("runner_executions")
    assert row["status"] == "FAILED"
    assert 'Machine type "a3-highgpu-1g" is not supported.' in row["error"]
    assert row["note"] == row["error"]
    assert row["advice"]
    assert [MACHINE in line for line in row["error_log"]].count(True) == 1
    assert len(row["error_log"]) == 3


def test_what_is_over_is_read_once(cloud: Monitored) -> None:
    job = cloud.runner("-q", "vertex")
    life = ExecutionLife(ends=8, exit_code=1, message="Container called exit(1).")
    name = cloud.execution(job, age_seconds=3_600, life=life)
    cloud.google.logs.add_text(cloud.clock.now - timedelta(seconds=3_595), "Runs: 1", name)
    first = cloud.rows("runner_executions")
    reads = len(cloud.google.named("ListLogEntries"))
    assert reads == 2
    assert cloud.rows("runner_executions") == first
    assert len(cloud.google.named("ListLogEntries")) == reads


def test_one_log_read_counts_the_jobs_of_all_runners(cloud: Monitored) -> None:
    job = cloud.runner("-q", "vertex")
    names = [cloud.execution(job, age_seconds=600) for _ in range(5)]
    for runs, name in enumerate(names, start=1):
        cloud.google.logs.add_text(cloud.clock.now, f"Runs: {runs}", name)
    rows = cloud.rows("runner_executions")
    assert {row["execution"]: row["runs"] for row in rows} == dict(
        zip(names, range(1, 6), strict=True)
    )
    assert len(cloud.google.named("ListLogEntries")) == 1


def test_a_runner_that_writes_much_is_counted_from_its_report(cloud: Monitored) -> None:
    name = cloud.execution(cloud.runner("-q", "vertex"), age_seconds=600)
    at = cloud.clock.now - timedelta(seconds=500)
    report = {"forge_runner": 1, "event": "alive", "runs": 3}
    cloud.google.logs.add_text(at, json.dumps(report), name)
    for number in range(1_100):
        cloud.google.logs.add_text(cloud.clock.now, f"line {number}", name)
    assert of(cloud.rows("runner_executions"), "runs") == [3]
    assert len(cloud.google.named("ListLogEntries")) == 1


def test_a_state_that_this_version_does_not_know_is_no_success(cloud: Monitored) -> None:
    cloud.execution(cloud.runner("-q", "vertex"))
    (execution,) = cloud.clouds.cloud_run.executions(REGIONS[0], cloud.clock.now, 5).rows
    region = RegionState(REGIONS[0], "ok", cloud.clock.now)
    picked = Picked([(region, replace(execution, state="UNKNOWN"))], 1, [region])
    row = runner_executions(picked, Told()).rows[0].as_json(cloud.clock.now)
    assert (row["status"], row["error"]) == ("UNKNOWN", "")
    assert row["note"] == "a state that this version does not know"


def test_a_cancelled_execution_did_not_fail(cloud: Monitored) -> None:
    job = cloud.runner("-q", "vertex")
    started = cloud.google.runs.start(job, age_seconds=60)
    cloud.google.runs.cancel(started.name)
    (row,) = cloud.rows("runner_executions")
    assert (row["status"], row["note"], row["error"]) == ("CANCELLED", "Cancelled", "")


def test_builds_under_way_newest_first_also_those_without_a_region(cloud: Monitored) -> None:
    status = Build.Status
    steps = [{"status": status.SUCCESS}, {"status": status.WORKING}]
    images = ["us-docker.pkg.dev/demo/r/trainer:v1", "us-docker.pkg.dev/demo/r/trainer:latest"]
    cloud.build("0123456789abcdef", status.WORKING, 3_723, images=images, steps=steps)
    cloud.build("queued", status.QUEUED, 10, region=EVERYWHERE)
    cloud.build("done", status.SUCCESS, 5, took=2)
    table = cloud.table("active_builds")
    titles = [column.title for column in table.columns]
    assert titles == ["Build ID", "Image", "Region", "Status", "Duration", "Steps", "Created"]
    queued, working = shown(table, cloud)
    created = local_time(cloud.clock.now - timedelta(seconds=3_723))
    assert queued[:6] == ["queued", "—", "global", "QUEUED", "10s", "0/0"]
    assert working == [
        *("0123456789a…", "trainer:v1", "us-central1", "WORKING", "1h 2m 3s", "1/2", created)
    ]
    assert cloud.rows("active_builds")[1]["build"] == "0123456789abcdef"
    assert [region.region for region in table.regions] == [*REGIONS, EVERYWHERE]


def test_fifty_builds_under_way_at_most(cloud: Monitored) -> None:
    for number in range(60):
        cloud.build(f"b{number}", Build.Status.WORKING, number)
    table = cloud.table("active_builds")
    assert (len(table.rows), table.found) == (50, 60)
    assert table.rows[0].name == "b0"


def test_the_four_newest_builds_those_under_way_first(cloud: Monitored) -> None:
    status, kind = Build.Status, Build.FailureInfo.FailureType
    why = Build.FailureInfo(type_=kind.PUSH_NOT_AUTHORIZED, detail="denied: no writer")
    cloud.build("good", status.SUCCESS, 100, took=63)
    cloud.build("bad", status.FAILURE, 200, took=10, failure_info=why)
    cloud.build("late", status.TIMEOUT, 300, took=10)
    cloud.build("gone", status.CANCELLED, 350, took=10)
    cloud.build("busy", status.WORKING, 400)
    table = cloud.table("recent_builds")
    titles = [column.title for column in table.columns]
    assert titles == ["Build ID", "Image", "Region", "Status", "Duration", "Finished", "Note"]
    busy, good, bad, late = shown(table, cloud)
    assert busy == ["busy", "—", "us-central1", "WORKING", "6m 40s", "—", "—"]
    over = cloud.clock.now - timedelta(seconds=37)
    finished, at = local_time(over), f"{over.astimezone(UTC):%b %d, %H:%M:%S}"
    assert good[3:] == ["SUCCESS", "1m 3s", finished, f"Build completed: {at} UTC"]
    assert bad[3:5] == ["FAILURE", "10s"]
    assert bad[6] == "denied: no writer"
    assert "TIMEOUT" in late[6]
    assert table.found == 5
    assert [row.error != "" for row in table.rows] == [False, False, True, True]


def test_a_cancelled_build_and_one_in_a_state_to_come(cloud: Monitored) -> None:
    cloud.build("gone", Build.Status.CANCELLED, 350, took=10)
    cloud.build("new", 99, 400)
    gone, new = cloud.rows("recent_builds")
    assert (gone["status"], gone["error"]) == ("CANCELLED", "")
    assert (new["status"], new["error"]) == ("UNKNOWN", "")
    assert new["note"] == "a state that this version does not know"
    assert cloud.rows("active_builds") == []


def test_the_ten_newest_jobs_of_the_last_week(cloud: Monitored) -> None:
    for hours in range(12):
        region = REGIONS[hours % 2]
        cloud.google.jobs.add(region, 3_600 * hours + 60, display_name=f"job {hours}")
    cloud.google.jobs.add(REGIONS[0], 8 * 86_400, display_name="old")
    table = cloud.table("vertex_jobs")
    titles = [column.title for column in table.columns]
    assert titles == ["Job ID", "Name", "Region", "State", "Runtime", "Created", "Note"]
    assert [row.cells["display_name"] for row in table.rows] == [f"job {n}" for n in range(10)]
    assert table.found == 12
    created = local_time(cloud.clock.now - timedelta(seconds=60))
    assert shown(table, cloud)[0][1:] == ["job 0", "us-central1", "RUNNING", "58s", created, "—"]


def test_a_job_in_every_state(cloud: Monitored) -> None:
    states = (*JobState, 99)
    for number, state in enumerate(states):
        life = Life(((0, JobState.JOB_STATE_RUNNING), (5, state)), error="out of memory")
        cloud.google.jobs.add(REGIONS[0], 1_000 + number, life, display_name=str(number))
    seen: dict[str, dict[str, Any]] = {}
    for start in range(0, len(states), 10):
        rows = cloud.rows("vertex_jobs")
        seen |= {row["state"]: row for row in rows}
        cloud.google.jobs._records[: min(10, len(states) - start)] = []
    names = {state.name.removeprefix("JOB_STATE_") for state in JobState} - {"UNSPECIFIED"}
    assert set(seen) == names | {"UNKNOWN"}
    assert seen["FAILED"]["error"] == seen["FAILED"]["note"] == "out of memory"
    assert seen["QUEUED"]["note"] == "waiting for quota"
    assert seen["UNKNOWN"]["note"] == "a state that this version does not know"
    assert {name for name, row in seen.items() if row["error"]} == {
        *("FAILED", "EXPIRED", "PARTIALLY_SUCCEEDED")
    }


def test_a_failed_job_shows_its_workers_log(cloud: Monitored) -> None:
    life = Life(((0, JobState.JOB_STATE_RUNNING), (50, JobState.JOB_STATE_FAILED)), error="")
    job = cloud.google.jobs.add(REGIONS[1], 1_000, life)
    at = cloud.clock.now - timedelta(seconds=955)
    said = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB"
    cloud.google.logs.add_json(at, said, job.rsplit("/", 1)[1])
    (row,) = cloud.rows("vertex_jobs")
    assert (row["note"], row["error_log"]) == (said, [said])


def test_runs_under_way_with_what_waits_in_the_queue(cloud: Monitored, wandb: FakeWandb) -> None:
    add, push = wandb.runs.add, wandb.queues.push
    old = add("team", "vision", "old-run", "running", age_seconds=7_200)
    new = add("team", "vision", "new-run", "preempting", age_seconds=60)
    add("team", "vision", "over", "crashed", age_seconds=60)
    add("team", "other", "foreign", "running")
    queue = wandb.queues.named("team", "vertex")
    waits = push(queue, {"name": "brave-otter", "target_project": "vision"}, NOBODY)
    leased = push(queue, {"project": "vision"}, ItemLife(((0, "LEASED"),)))
    push(queue, {"project": "other"}, NOBODY)
    push(queue, {"project": "vision"}, ItemLife(((0, "CLAIMED"),)))
    table = cloud.table("active_runs")
    assert [column.title for column in table.columns] == [
        "Run ID",
        "Name",
        "State",
        "Runtime",
        "Created",
    ]
    created = [local_time(cloud.clock.now - timedelta(seconds=age)) for age in (60, 7_200)]
    assert shown(table, cloud) == [
        [waits.id, "brave-otter", "queued", "—", "—"],
        [leased.id, "(queue item)", "leased", "—", "—"],
        ["new-run", new.display, "preempting", "1m 0s", created[0]],
        ["old-run", old.display, "running", "2h 0m 0s", created[1]],
    ]
    assert [region.region for region in table.regions] == ["W&B runs", "W&B queue vertex"]


def test_a_waiting_item_is_not_shown_beside_its_own_run(cloud: Monitored, wandb: FakeWandb) -> None:
    # Both are read at once, and the item a little earlier.
    item = {"id": "i1", "state": "LEASED", "associatedRunId": "r1", "runSpec": {"name": "otter"}}
    told = {"project": {"runQueue": {"runQueueItems": {"edges": [{"node": item}]}}}}
    answer = json.dumps({"data": told}).encode()
    wandb.faults.add(http_faults.answer(answer), "GetRunQueueItems")
    assert of(cloud.rows("active_runs"), "state") == ["leased"]
    wandb.runs.add("team", "vision", "r1", "running")
    assert of(cloud.rows("active_runs"), "state") == ["running"]


def test_more_runs_than_were_asked_for_are_told_as_so_many_or_more(
    cloud: Monitored, wandb: FakeWandb
) -> None:
    for number in range(ACTIVE_READ - 1):
        wandb.runs.add("team", "vision", f"run{number}", "running", age_seconds=number)
    assert heading(cloud.table("active_runs")) == "Active W&B runs"
    for number in range(3):
        wandb.runs.add("team", "vision", f"more{number}", "running", age_seconds=number)
    table = cloud.table("active_runs")
    assert heading(table) == "Active W&B runs (100 or more)"
    as_json = table.as_json(cloud.clock.now)
    assert (as_json["found"], as_json["found_more"]) == (100, True)


def test_the_ten_newest_runs_that_are_over(cloud: Monitored, wandb: FakeWandb) -> None:
    states = ("finished", "failed", "crashed", "killed")
    for number in range(12):
        age = 100 * number + 1_000
        wandb.runs.add("team", "vision", f"run{number}", states[number % 4], age, seconds=61)
    wandb.runs.add("team", "vision", "busy", "running")
    rows = cloud.rows("completed_runs")
    assert of(rows, "run") == [f"run{number}" for number in range(10)]
    assert of(rows, "state")[:4] == list(states)
    assert set(of(rows, "runtime")) == {61.0}


def test_without_wandb_the_tables_say_so_and_are_whole(make: Callable[..., Monitored]) -> None:
    snapshot = make(wandb=None).read("active_runs", "completed_runs")
    assert snapshot.complete
    for table in snapshot.tables:
        assert (table.rows, table.regions) == ([], [])
        assert "cloud.wandb" in table.note
