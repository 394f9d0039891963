"""How well each region was read: told for every table, and never an empty table in its place."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from google.cloud.aiplatform_v1.types import JobState

from forge_assets.cli.monitor import show_once
from forge_assets.cli.monitor_text import snapshot_lines
from forge_assets.launches.monitor.shown import freshness, region_lines
from resources.cloud.regions import REGIONS
from resources.diagnosis_store import DiagnosisStore
from tests.launches.monitored import Monitored
from tests.wire import faults, http_faults
from tests.wire.clock import HandClock
from tests.wire.jobs import Life
from tests.wire.runs import ExecutionLife
from tests.wire.server import FakeGoogle
from tests.wire.wandb_server import FakeWandb

HUNG, REFUSED = "us-east4", "us-west3"
OF_GOOGLE = ("runner_executions", "active_builds", "recent_builds", "vertex_jobs")


@pytest.fixture
def make(google: FakeGoogle, wandb: FakeWandb, clock: HandClock) -> Callable[..., Monitored]:
    wandb.runs.add("team", "vision", "run", "running")
    return lambda **config: Monitored(google, wandb, clock, **{"regions": REGIONS, **config})


def states(regions: Sequence[Any]) -> Counter[str]:
    return Counter(region.state for region in regions)


def test_a_hung_and_a_denied_region_cost_the_others_nothing(
    make: Callable[..., Monitored],
    google: FakeGoogle,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cloud = make()
    for region in REGIONS:
        google.jobs.add(region, age_seconds=REGIONS.index(region))
    google.faults.add(faults.hang(), region=HUNG)
    google.faults.add(faults.denied(), region=REFUSED)
    cloud.read(seconds=0.5)
    began = time.monotonic()
    snapshot = cloud.read(seconds=2)
    assert time.monotonic() - began < 3
    tables = {table.name: table for table in snapshot.tables}
    for name in OF_GOOGLE:
        others = 17 if "builds" in name else 16
        assert states(tables[name].regions) == {"ok": others, "timeout": 1, "denied": 1}
    assert len(tables["vertex_jobs"].rows) == 10
    assert tables["vertex_jobs"].found == 16
    assert tables["active_runs"].complete

    assert show_once(lambda: snapshot, as_json=False) == 1
    told = capsys.readouterr()
    (line,) = told.err.splitlines()
    names = ", ".join(OF_GOOGLE)
    assert set(line.removeprefix("forge: not read whole: ").split("; ")) == {
        f"{HUNG} timeout ({names})",
        f"{REFUSED} denied ({names})",
    }
    assert f"! denied: {REFUSED}: never read: Permission 'aiplatform.customJobs.list'" in told.out
    assert told.out.count(f"! timeout: {HUNG}: never read: ") == 4
    assert told.out.count("none in what was read") == 3


def test_all_tables_of_eighteen_regions_in_little_more_than_one_answer(
    make: Callable[..., Monitored], google: FakeGoogle
) -> None:
    cloud = make()
    cloud.read()
    google.faults.add(faults.latency(0.08))
    began = time.monotonic()
    assert cloud.read().complete
    assert time.monotonic() - began < 5
    assert len(google.calls) == 2 * (18 + 19 + 18)


def test_a_region_that_fails_shows_its_last_rows_as_old_as_they_are(
    make: Callable[..., Monitored], google: FakeGoogle, clock: HandClock
) -> None:
    cloud = make()
    google.jobs.add(REFUSED, age_seconds=100)
    google.jobs.add("us-east1", age_seconds=90)
    assert cloud.read("vertex_jobs").complete
    clock.forward(30)
    google.faults.add(faults.denied(), region=REFUSED)
    table = cloud.table("vertex_jobs")
    fresh, old = table.rows
    assert [freshness(row.region, clock.now) for row in (fresh, old)] == ["ok, 0s", "denied, 30s"]
    assert (fresh.seconds("runtime", clock.now), old.seconds("runtime", clock.now)) == (118, 98)
    as_json = old.as_json(clock.now)
    assert (as_json["region_state"], as_json["age"]) == ("denied", 30)
    (line,) = region_lines(table, clock.now)
    assert line.startswith(f"denied: {REFUSED}: rows of 30s ago: Permission")
    clock.forward(30)
    # Between two refreshes durations go on; that of a row which was not seen does not.
    assert (fresh.seconds("runtime", clock.now), old.seconds("runtime", clock.now)) == (148, 98)
    assert not cloud.table("vertex_jobs").complete
    google.faults.clear()
    assert cloud.table("vertex_jobs").complete


def test_half_a_region_is_no_region(make: Callable[..., Monitored], google: FakeGoogle) -> None:
    for _ in range(150):
        google.jobs.add(HUNG)
    google.faults.add(faults.second_page(), "ListCustomJobs", HUNG)
    cloud = make()
    table = cloud.table("vertex_jobs")
    assert (len(table.rows), table.found) == (10, 100)
    (line,) = region_lines(table, cloud.clock.now)
    assert line.startswith(f"partial: {HUNG}: some rows: only the first 100 rows")


def test_regions_that_fail_alike_are_told_in_one_line(
    make: Callable[..., Monitored], google: FakeGoogle
) -> None:
    google.faults.add(faults.denied())
    cloud = make()
    lines = region_lines(cloud.table("runner_executions"), cloud.clock.now)
    assert len(lines) == 1
    assert all(region in lines[0] for region in REGIONS)


def test_wandb_that_fails_counts(make: Callable[..., Monitored], wandb: FakeWandb) -> None:
    cloud = make(regions=["us-central1"])
    assert cloud.read("active_runs").complete
    wandb.faults.add(http_faults.status(502))
    snapshot = cloud.read("active_runs", "completed_runs")
    active, completed = snapshot.tables
    assert states(active.regions) == {"partial": 2}
    assert [row.name for row in active.rows] == ["run"]
    assert completed.unread[0].as_of is None
    assert "W&B runs partial (active_runs, completed_runs)" in snapshot.unread_sentence()


def test_a_missing_key_is_said_and_counts(
    google: FakeGoogle, wandb: FakeWandb, clock: HandClock
) -> None:
    cloud = Monitored(google, wandb, clock)
    del cloud.environment["WANDB_API_KEY"]
    table = cloud.table("completed_runs")
    (region,) = table.regions
    assert (region.state, table.complete) == ("denied", False)
    assert "set WANDB_API_KEY" in region.said


def test_logs_that_hang_delay_no_table(
    make: Callable[..., Monitored], google: FakeGoogle, clock: HandClock
) -> None:
    cloud = make(regions=["us-central1"])
    job = cloud.runner("-q", "vertex")
    cloud.execution(job, 60)
    cloud.execution(job, 90, ExecutionLife(ends=5, exit_code=2, message="it called exit(2)."))
    google.faults.add(faults.hang(), "ListLogEntries")
    began = time.monotonic()
    snapshot = cloud.monitor.read(["runner_executions"], log_seconds=0.5)
    assert time.monotonic() - began < 5
    running, failed = (row.as_json(clock.now) for row in snapshot.tables[0].rows)
    assert running["note"].startswith("Running... (jobs not counted: ")
    assert "called exit(2)." in failed["error"]
    assert "not read" in failed["error_log_note"]
    assert snapshot.complete


def test_the_budget_of_log_reads_is_kept_and_said(
    google: FakeGoogle, wandb: FakeWandb, clock: HandClock, postgres_engine: sa.Engine
) -> None:
    diagnoses = DiagnosisStore(postgres_engine)
    diagnoses.pause_reads("cloud-logging", 20, 20, 60)
    cloud = Monitored(google, wandb, clock, diagnoses)
    life = Life(((0, JobState.JOB_STATE_RUNNING), (9, JobState.JOB_STATE_FAILED)), "exit status 1")
    google.jobs.add("us-central1", 1_000, life)
    cloud.execution(cloud.runner("-q", "vertex"), 60)
    snapshot = cloud.read("runner_executions", "vertex_jobs")
    assert google.named("ListLogEntries") == []
    text = "\n".join(snapshot_lines(snapshot, clock.now))
    assert "Running... (jobs not counted: throttled" in text
    assert "ERROR: exit status 1" in text
    assert "log: not read: throttled" in text


def test_a_reason_is_read_once_for_ever(
    google: FakeGoogle, wandb: FakeWandb, clock: HandClock, postgres_engine: sa.Engine
) -> None:
    life = Life(((0, JobState.JOB_STATE_RUNNING), (9, JobState.JOB_STATE_FAILED)), "exit status 1")
    job = google.jobs.add("us-central1", 3_000, life)
    at = clock.now - timedelta(seconds=2_995)
    google.logs.add_json(at, "CUDA out of memory. Tried to allocate 2 GiB", job.rsplit("/", 1)[1])
    rows = []
    for _ in range(2):
        cloud = Monitored(google, wandb, clock, DiagnosisStore(postgres_engine))
        rows += cloud.rows("vertex_jobs")
    assert rows[0] == rows[1]
    assert "CUDA out of memory" in rows[0]["error"]
    assert len(google.named("ListLogEntries")) == 1


def test_what_ended_executions_told_is_read_once_for_ever(
    google: FakeGoogle, wandb: FakeWandb, clock: HandClock, postgres_engine: sa.Engine
) -> None:
    def read() -> tuple[list[dict[str, Any]], int]:
        """The rows of a `forge monitor` of its own, and the log reads that it took."""
        before = len(google.named("ListLogEntries"))
        rows = Monitored(google, wandb, clock, DiagnosisStore(postgres_engine)).rows(
            "runner_executions"
        )
        return rows, len(google.named("ListLogEntries")) - before

    cloud = Monitored(google, wandb, clock)
    job = cloud.runner("-q", "vertex")
    done = cloud.execution(job, 3_000, ExecutionLife(ends=60))
    cloud.execution(job, 3_100, ExecutionLife(ends=60, exit_code=1))
    google.logs.add_text(clock.now - timedelta(seconds=2_950), "Runs: 3", done)
    google.faults.add(faults.unavailable(), "ListLogEntries")
    assert [row["runs"] for row in read()[0]] == [None, None]
    google.faults.clear()
    first, reads = read()
    assert ([row["runs"] for row in first], reads) == ([3, None], 2)
    assert first[0]["note"] == "Completed: 3 jobs"
    assert read() == (first, 0)
    # One that runs costs the one read that counts for all.
    google.logs.add_text(clock.now, "Runs: 1", cloud.execution(job, 60))
    rows, reads = read()
    assert ([row["runs"] for row in rows], reads) == ([1, 3, None], 1)
    # Its end is too young for all its lines to be there.
    young = cloud.execution(job, 50, ExecutionLife(ends=10))
    assert [read()[1], read()[1]] == [1, 1]
    clock.forward(600)
    google.logs.add_text(clock.now - timedelta(seconds=600), "Runs: 7", young)
    assert 7 in [row["runs"] for row in read()[0]]


def test_a_reason_whose_log_was_not_read_is_not_kept(
    google: FakeGoogle, wandb: FakeWandb, clock: HandClock, postgres_engine: sa.Engine
) -> None:
    life = Life(((0, JobState.JOB_STATE_RUNNING), (9, JobState.JOB_STATE_FAILED)), "exit status 1")
    job = google.jobs.add("us-central1", 3_000, life)
    at = clock.now - timedelta(seconds=2_995)
    google.logs.add_json(at, "CUDA out of memory. Tried to allocate 2 GiB", job.rsplit("/", 1)[1])
    cloud = Monitored(google, wandb, clock, DiagnosisStore(postgres_engine))
    google.faults.add(faults.unavailable(), "ListLogEntries")
    (row,) = cloud.rows("vertex_jobs")
    assert (row["error"], row["error_log_note"].split(":")[0]) == ("exit status 1", "not read")
    google.faults.clear()
    (row,) = cloud.rows("vertex_jobs")
    assert "CUDA out of memory" in row["error"]


def test_threads_of_hung_calls_do_not_pile_up(
    make: Callable[..., Monitored], google: FakeGoogle, wandb: FakeWandb
) -> None:
    cloud = make(regions=["us-central1", HUNG])
    failed = ExecutionLife(ends=5, exit_code=2)
    cloud.execution(cloud.runner("-q", "vertex"), 900, failed)
    cloud.read()
    google.faults.add(faults.hang(), region=HUNG)
    google.faults.add(faults.hang(), "ListLogEntries")
    wandb.faults.add(http_faults.hang())
    asking = []
    for _ in range(4):
        snapshot = cloud.monitor.read(seconds=0.4, log_seconds=0.3)
        assert not snapshot.complete
        asking.append(sum(each.name.startswith("ask ") for each in threading.enumerate()))
    # Each ends by its own deadline: what hangs now is of this refresh, at most.
    most = 2 * len(REGIONS)
    assert max(asking) <= most
    assert asking[-1] <= asking[0] + 4
    for each in threading.enumerate():
        if each.name.startswith("ask "):
            each.join(10)
            assert not each.is_alive()
