"""`stuck_agent_sensor`: an agent that never learns that its job has ended."""

import pytest
from google.cloud.aiplatform_v1.types import JobState

from tests.sensors.rig import OTHER, REGION, Rig, life
from tests.wire import faults
from tests.wire.wandb_queues import ItemLife

SENSOR = "stuck_agent_sensor"
ENDED = life((0, JobState.JOB_STATE_RUNNING), (60, JobState.JOB_STATE_CANCELLED))
LIVES = life((0, JobState.JOB_STATE_RUNNING))
TAKEN = ItemLife(((0, "CLAIMED"),))
MINUTES = 60


@pytest.fixture
def busy(rig: Rig) -> Rig:
    """An agent that runs something, and whose last job was cancelled."""
    rig.wandb.queues.add_agent("team", ["vertex"], name="runner-1", status="RUNNING")
    add_job(rig, "r1", ended=True)
    return rig


def add_job(rig: Rig, run: str, ended: bool, item: ItemLife = TAKEN) -> str:
    rig.wandb.queues.push(rig.wandb.queues.named("team", "vertex"), {"run_id": run}, item)
    labels = {"wandb-run-id": run}
    return rig.google.jobs.add(REGION, labels=labels, life=ENDED if ended else LIVES)


def ticks(rig: Rig, *minutes: int) -> str:
    """Ticks after so many minutes each, the agent's heart beating; what the last one said."""
    said = ""
    for after in minutes:
        pass_minutes(rig, after)
        told = rig.tick(SENSOR).skip_reason
        said = str(told.skip_message) if told else ""
    return said


def pass_minutes(rig: Rig, minutes: int) -> None:
    rig.clock.forward(minutes * MINUTES)
    for agent in rig.wandb.queues.agents.get("team", ()):
        agent["heartbeatAt"] = rig.clock.now.strftime("%Y-%m-%dT%H:%M:%S")


def test_an_agent_that_stays_busy_with_what_is_over_is_one_alert(busy: Rig) -> None:
    assert ticks(busy, 5) == "0 agents stuck, 0 under suspicion"
    assert ticks(busy, 15) == "0 agents stuck, 1 under suspicion"
    assert busy.told() == []
    assert ticks(busy, 15) == "1 agents stuck, 0 under suspicion"
    busy.restart()
    ticks(busy, 5, 5)
    (told,) = busy.told()
    assert told.metadata["severity"] == "error"
    assert (told.metadata["agent_name"], told.metadata["wandb_run"]) == ("runner-1", "r1")
    assert told.metadata["job_state"] == "CANCELLED"
    assert "start the runner anew" in told.metadata["note"]


def test_a_cursor_that_says_nothing_begins_anew_and_tells_nothing_twice(busy: Rig) -> None:
    ticks(busy, 20, 15)
    busy.cursors[SENSOR] = "garbage"
    ticks(busy, 5, 20)
    assert len(busy.told()) == 1


def test_an_agent_with_a_job_that_lives_is_busy(busy: Rig) -> None:
    add_job(busy, "r2", ended=False)
    assert ticks(busy, 20, 20) == "0 agents stuck, 0 under suspicion"


def test_an_agent_that_takes_an_item_is_busy(busy: Rig) -> None:
    leased = ItemLife(((0, "LEASED"),))
    busy.wandb.queues.push(busy.wandb.queues.named("team", "vertex"), {}, leased)
    assert ticks(busy, 20, 20) == "0 agents stuck, 0 under suspicion"


@pytest.mark.parametrize("status", ["POLLING", "KILLED"])
def test_an_agent_that_is_not_busy_is_not_stuck(rig: Rig, status: str) -> None:
    rig.wandb.queues.add_agent("team", ["vertex"], status=status)
    add_job(rig, "r1", ended=True)
    assert ticks(rig, 20, 20) == "0 agents stuck, 0 under suspicion"
    assert rig.google.calls == []


def test_a_dead_agent_is_not_stuck(busy: Rig) -> None:
    for _ in range(2):
        busy.clock.forward(20 * MINUTES)
        busy.tick(SENSOR)
    assert busy.told() == []
    # It is no question of its job: that is not looked at.
    assert busy.google.calls == []


def test_what_cannot_be_read_is_no_alert_but_what_may_not_be_read_is_left_out(busy: Rig) -> None:
    ticks(busy, 20)
    busy.google.faults.add(faults.unavailable(), region=OTHER)
    pass_minutes(busy, 20)
    said = busy.skipped(SENSOR)
    assert said == f"whether an agent is stuck is not known: not read whole: {OTHER} (partial)"
    assert busy.told() == []
    busy.google.faults.clear()
    busy.google.faults.add(faults.denied(), region=OTHER)
    ticks(busy, 1)
    assert len(busy.told()) == 1


def test_without_wandb_a_tick_says_so(rig: Rig) -> None:
    rig.config = {name: value for name, value in rig.config.items() if name != "wandb"}
    rig.restart()
    assert rig.skipped(SENSOR) == "forge.yaml has no cloud.wandb: there are no agents to watch"
