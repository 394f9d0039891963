"""Failed checks, runs and launches reach a webhook, each once."""

import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.errors import DagsterExecutionInterruptedError

from forge_assets.interactions import dagster_runs
from forge_assets.project import load_project
from resources.database import PROJECT_ROOT, open_engine
from resources.launch_store import Launch, LaunchStore
from resources.locks import LockSpace, SessionLock
from sensors import run_ends
from sensors.alerts import build_alert_sensors
from sensors.run_ends import read_cursor
from tests.alerts.webhook import Webhook
from tests.sensors.alert_rig import CHECKS, FAILURES, AlertRig, execute, stage_asset

BLOCKS = ("rejection_rate", False, True)
WARNS = ("success_rate", False, False)
FINE = ("throughput", True, True)


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook() as made:
        yield made


@pytest.fixture
def alerts(instance: dg.DagsterInstance, webhook: Webhook) -> AlertRig:
    return AlertRig(instance, webhook)


def test_both_run_by_default_every_30_seconds() -> None:
    made = build_alert_sensors(load_project())
    assert [sensor.name for sensor in made] == [CHECKS, FAILURES]
    assert {sensor.default_status for sensor in made} == {dg.DefaultSensorStatus.RUNNING}
    assert {sensor.minimum_interval_seconds for sensor in made} == {30}


def test_a_run_with_failed_checks_is_told_once_with_all_of_them(alerts: AlertRig) -> None:
    run = alerts.run(BLOCKS, FINE, WARNS)
    assert not run.success
    for _ in range(3):
        alerts.tick()
    (received,) = alerts.webhook.received
    assert received["title"] == "review ramp-50: rejection_rate failed"
    assert received["message"].splitlines() == [
        "- rejection_rate: 22.0 % (11 of 50), limit 15 %",
        "- success_rate (warns): 22.0 % (11 of 50), limit 15 %",
        "",
        "workflow: review",
        "stage: ramp-50",
        f"run: {run.run_id}",
        f"http://host:3000/runs/{run.run_id}",
        "look: forge report --stage ramp-50",
    ]


@pytest.mark.parametrize("names", [(CHECKS,), (FAILURES,), (FAILURES, CHECKS)])
def test_whichever_sensor_is_on_a_failed_stage_is_told_once(
    alerts: AlertRig, names: tuple[str, ...]
) -> None:
    alerts.run(BLOCKS)
    alerts.tick(*names)
    alerts.tick(*names)
    assert alerts.webhook.titles == ["review ramp-50: rejection_rate failed"]


def test_a_run_that_only_warns_succeeded_and_is_told_unless_switched_off(alerts: AlertRig) -> None:
    assert alerts.run(WARNS).success
    alerts.warnings = False
    alerts.restart()
    alerts.tick()
    assert alerts.webhook.received == []
    alerts.warnings = True
    alerts.restart()
    assert alerts.run(WARNS).success
    alerts.tick()
    assert alerts.webhook.titles == ["review ramp-50: success_rate warns"]


def test_a_run_that_went_well_is_told_to_nobody(alerts: AlertRig) -> None:
    assert alerts.run(FINE).success
    assert alerts.tick() == "0 new messages, 0 delivered"
    assert alerts.webhook.received == []


def test_a_failed_run_is_told_with_its_sentence(alerts: AlertRig) -> None:
    run = alerts.run(raises=dg.Failure("the disk is full", allow_retries=False))
    alerts.tick()
    alerts.tick()
    (received,) = alerts.webhook.received
    assert received["title"] == "review ramp-50: the run failed"
    assert received["message"].startswith("the disk is full\n")
    assert run.run_id in received["message"]


def test_a_run_that_somebody_stopped_is_told_to_nobody(alerts: AlertRig) -> None:
    run = alerts.run(raises=DagsterExecutionInterruptedError())
    assert alerts.instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.FAILURE  # type: ignore[union-attr]
    cancelled = alerts.instance.create_run_for_job(
        dg.job(name="stopped")(lambda: None), status=dg.DagsterRunStatus.STARTED
    )
    alerts.instance.report_run_canceled(cancelled)
    alerts.tick()
    assert alerts.webhook.received == []


def test_a_run_whose_process_died_is_told_when_it_is_found(alerts: AlertRig) -> None:
    made = alerts.instance.create_run_for_job(
        dg.job(name="left_behind")(lambda: None), status=dg.DagsterRunStatus.STARTED
    )
    alerts.tick()
    alerts.instance.report_run_failed(made, "The process of this run ended without a word.")
    alerts.tick()
    (received,) = alerts.webhook.received
    assert received["title"] == "left_behind: the run failed"
    assert "The process of this run ended without a word." in received["message"]


def test_killed_before_the_cursor_was_kept_it_does_not_tell_twice(alerts: AlertRig) -> None:
    alerts.run(BLOCKS)
    alerts.tick(keep=False)
    alerts.restart()
    alerts.tick(keep=False)
    alerts.tick()
    assert len(alerts.webhook.received) == 1


def test_a_lost_cursor_tells_nothing_twice_and_nothing_older_than_an_hour(
    alerts: AlertRig,
) -> None:
    alerts.run(BLOCKS)
    alerts.tick()
    alerts.cursors.clear()
    alerts.tick()
    assert len(alerts.webhook.received) == 1


def test_what_ended_long_before_the_first_tick_is_told_to_nobody(alerts: AlertRig) -> None:
    alerts.run(BLOCKS)
    alerts.now = lambda: datetime.now(UTC) + timedelta(hours=1, minutes=5)
    alerts.restart()
    alerts.tick()
    assert alerts.webhook.received == []
    alerts.now = lambda: datetime.now(UTC) + timedelta(minutes=50)
    alerts.restart()
    alerts.cursors.clear()
    alerts.tick()
    assert len(alerts.webhook.received) == 1


def test_after_days_without_a_daemon_nothing_is_lost(alerts: AlertRig) -> None:
    alerts.tick()
    alerts.run(BLOCKS)
    alerts.now = lambda: datetime.now(UTC) + timedelta(days=3)
    alerts.restart()
    alerts.tick()
    assert len(alerts.webhook.received) == 1


def test_more_runs_than_a_tick_takes_are_told_by_the_next_ones(
    alerts: AlertRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_ends, "AT_MOST", 2)
    runs = [alerts.run(WARNS).run_id for _ in range(5)]
    seen = []
    for _ in range(3):
        alerts.tick(CHECKS)
        seen.append(len(alerts.webhook.received))
    assert seen == [2, 4, 5]
    told = [received["message"] for received in alerts.webhook.received]
    assert all(run in text for run, text in zip(runs, told, strict=True))


def test_an_event_that_was_written_late_under_a_lower_number_is_read(alerts: AlertRig) -> None:
    """Two runs end at once: the higher number may be there first."""
    first, second = alerts.run(WARNS), alerts.run(WARNS)
    alerts.tick(CHECKS)
    cursor = read_cursor(alerts.cursors[CHECKS], datetime.now(UTC))
    position = cursor.positions["RUN_SUCCESS"]
    late = position.model_copy(update={"looked": position.looked[1:]})
    positions = {**cursor.positions, "RUN_SUCCESS": late}
    alerts.cursors[CHECKS] = cursor.model_copy(update={"positions": positions}).text()
    with open_engine().begin() as connection:
        connection.execute(
            sa.text("DELETE FROM forge.alerts WHERE key = :key"), {"key": f"run {first.run_id}"}
        )
    alerts.tick(CHECKS)
    told = [received["message"] for received in alerts.webhook.received]
    assert [first.run_id in text for text in told] == [True, False, True]
    assert second.run_id in told[1]


def test_a_webhook_that_fails_breaks_nothing_and_gets_it_later(alerts: AlertRig) -> None:
    alerts.webhook.status = 503
    alerts.run(BLOCKS)
    assert alerts.tick(CHECKS) == "1 new messages, 0 delivered"
    assert alerts.tick(FAILURES) == "0 new messages, 0 delivered"
    alerts.webhook.status = 200
    with open_engine().begin() as connection:
        connection.execute(sa.text("UPDATE forge.alerts SET next_at = now()"))
    assert alerts.tick(FAILURES) == "0 new messages, 1 delivered"
    assert alerts.webhook.titles == ["review ramp-50: rejection_rate failed"]


def test_with_nobody_to_tell_the_tick_goes_on(alerts: AlertRig) -> None:
    alerts.to = ()
    alerts.restart()
    alerts.run(BLOCKS)
    assert alerts.tick(CHECKS) == "1 new messages, 1 delivered"
    assert alerts.tick(FAILURES) == "0 new messages, 0 delivered"


def launched(state: str, minutes_ago: float) -> Launch:
    store = LaunchStore(open_engine())
    made = store.begin(
        Launch(uuid4(), "intended", "direct", "train", "demo", "us-central1", holder="me")
    )
    assert store.change(made.id, "test", state=state, reason="CUDA out of memory")
    with open_engine().begin() as connection:
        connection.execute(
            sa.text(
                "UPDATE forge.launches SET updated_at = now() - make_interval(secs => :seconds)"
                " WHERE id = :id"
            ),
            {"seconds": 60 * minutes_ago, "id": made.id},
        )
    return made


@pytest.mark.parametrize(
    "state", ["failed", "expired", "rejected", "runner_failed", "partially_succeeded"]
)
def test_a_launch_that_ended_badly_is_told_once(alerts: AlertRig, state: str) -> None:
    made = launched(state, 3)
    for _ in range(3):
        alerts.tick()
    assert alerts.webhook.titles == [
        f"launch {made.id.hex[:8]} of train: {state.replace('_', ' ')}"
    ]


@pytest.mark.parametrize("state", ["succeeded", "cancelled", "running", "timeout"])
def test_a_launch_that_did_not_is_told_to_nobody(alerts: AlertRig, state: str) -> None:
    launched(state, 3)
    alerts.tick()
    assert alerts.webhook.received == []


def test_a_launch_is_told_when_its_diagnosis_has_had_time(alerts: AlertRig) -> None:
    made = launched("failed", 0)
    alerts.tick()
    assert alerts.webhook.received == []
    with open_engine().begin() as connection:
        connection.execute(sa.text("UPDATE forge.launches SET updated_at = now() - interval '3 m'"))
    alerts.cursors.clear()
    alerts.tick()
    assert alerts.webhook.titles == [f"launch {made.id.hex[:8]} of train: failed"]


def test_a_launch_that_ended_long_before_the_first_tick_is_told_to_nobody(
    alerts: AlertRig,
) -> None:
    launched("failed", 65)
    alerts.tick()
    assert alerts.webhook.received == []


def test_a_run_that_was_to_launch_and_its_launch_are_one_message(alerts: AlertRig) -> None:
    ids = []

    @dg.asset(key="launches", config_schema={"job": str})
    def launches() -> None:
        ids.append(launched("rejected", 0).id)
        raise dg.Failure("the job was rejected: no quota", allow_retries=False)

    execute(alerts.instance, launches, config={"ops": {"launches": {"config": {"job": "train"}}}})
    alerts.tick()
    with open_engine().begin() as connection:
        connection.execute(
            sa.text("UPDATE forge.launches SET updated_at = updated_at - interval '3 m'")
        )
    cursor = read_cursor(alerts.cursors[FAILURES], datetime.now(UTC))
    alerts.cursors[FAILURES] = cursor.model_copy(update={"launches": None}).text()
    alerts.tick()
    (received,) = alerts.webhook.received
    assert received["title"] == "launches: the run failed"
    assert received["message"].startswith("the job was rejected: no quota")


def test_a_run_whose_records_cannot_be_read_keeps_no_other_from_being_told(
    alerts: AlertRig,
) -> None:
    broken, fine = alerts.run(BLOCKS), alerts.run(BLOCKS)
    with open_engine().begin() as connection:
        connection.execute(
            sa.text(
                "UPDATE public.event_logs SET event = 'no json' WHERE run_id = :id"
                " AND dagster_event_type = 'STEP_FAILURE'"
            ),
            {"id": broken.run_id},
        )
    alerts.tick(FAILURES)
    alerts.tick()
    first, second = alerts.webhook.received
    assert first["title"] == "a run: the run failed"
    assert broken.run_id in first["message"]
    assert fine.run_id in second["message"]


def test_a_target_that_hangs_delays_a_tick_by_its_bound_only(alerts: AlertRig) -> None:
    alerts.run(BLOCKS)
    with Webhook(hangs=True) as hanging:
        alerts.to = (hanging.url, alerts.webhook.url)
        alerts.restart()
        began = time.monotonic()
        assert alerts.tick(CHECKS) == "1 new messages, 1 delivered"
        assert time.monotonic() - began < 20
    assert len(alerts.webhook.received) == 1


def test_loading_the_sensors_opens_nothing() -> None:
    code = (
        "import sys\n"
        "from forge_assets.project import load_project\n"
        "from sensors.alerts import build_alert_sensors\n"
        "from sensors.stage_progress import build_stage_progress_sensor\n"
        "project = load_project()\n"
        "build_alert_sensors(project), build_stage_progress_sensor(project)\n"
        "print(*(name for name, module in sys.modules.items() if getattr(module, '__file__', 0)))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True
    )
    heavy = {"apprise", "requests", "google", "torch", "sqlalchemy", "psycopg2", "httpx"}
    assert heavy & {name.split(".")[0] for name in loaded.stdout.split()} == set()


@pytest.mark.parametrize("lives", [False, True])
def test_a_run_whose_process_died_without_a_word_is_marked_failed_and_told(
    alerts: AlertRig, monkeypatch: pytest.MonkeyPatch, lives: bool
) -> None:
    monkeypatch.setattr(dagster_runs, "_PROCESS_SECONDS", -1.0)
    asset = stage_asset([])
    run = alerts.instance.create_run_for_job(
        dg.Definitions(assets=[asset]).resolve_implicit_global_asset_job_def(),
        status=dg.DagsterRunStatus.STARTED,
        tags={"dagster/partition": "ramp-50"},
        asset_selection=frozenset(asset.keys),
    )
    lock = SessionLock(open_engine(), LockSpace.RUN, run.run_id)
    if lives:
        assert lock.try_acquire()
    alerts.tick()
    lock.release()
    status = alerts.instance.get_run_by_id(run.run_id).status  # type: ignore[union-attr]
    assert status == (dg.DagsterRunStatus.STARTED if lives else dg.DagsterRunStatus.FAILURE)
    titles = [] if lives else ["review ramp-50: the run failed"]
    assert alerts.webhook.titles == titles
    assert all("ended without a word" in told["message"] for told in alerts.webhook.received)
