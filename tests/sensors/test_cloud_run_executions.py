"""`cloud_run_execution_sensor`: a runner that dies takes no launch with it unnoticed."""

from typing import Any

import pytest
from google.cloud.run_v2.types import EnvVar, RunJobRequest

from forge_assets.launches.launch_id import VARIABLE
from tests.sensors.rig import PAST_THE_LAUNCHER, REGION, RUNNER, Rig, life
from tests.wire import faults
from tests.wire.runs import ExecutionLife
from tests.wire.server import FakeGoogle

SENSOR = "cloud_run_execution_sensor"
DIES = ExecutionLife(runs=2, ends=8, exit_code=2, message="Container called exit(2).")


@pytest.fixture(autouse=True)
def runner(google: FakeGoogle, rig: Rig) -> None:
    from google.cloud.run_v2.types import Container, ExecutionTemplate, Job, TaskTemplate

    template = TaskTemplate(containers=[Container(image="runner")])
    google.runs.add_job(RUNNER, Job(template=ExecutionTemplate(template=template)))
    google.runs.add_job(f"projects/demo/locations/{REGION}/jobs/nightly")


def started_for(rig: Rig, launch: str, **options: Any) -> str:
    variable = EnvVar(name=VARIABLE, value=launch)
    override = RunJobRequest.Overrides.ContainerOverride(env=[variable])
    overrides = RunJobRequest.Overrides(container_overrides=[override])
    return str(rig.google.runs.start(RUNNER, overrides=overrides, **options).name)


def test_a_dead_runner_is_told_diagnosed_and_ends_its_launch(rig: Rig) -> None:
    launch = rig.begun("timeout")
    rig.report(launch.id)
    execution = started_for(rig, launch.id.hex, life=DIES)
    rig.clock.forward(10)
    rig.tick(SENSOR)
    assert rig.kept(launch.id).execution == execution
    (ended,) = [told for told in rig.told() if "execution_state" in told.metadata]
    assert ended.metadata["execution_state"] == "FAILED"
    assert ended.metadata["launch"] == str(launch.id)
    assert "Container called exit(2)." in ended.metadata["reason"]

    rig.clock.forward(PAST_THE_LAUNCHER)
    (request,) = rig.tick(SENSOR).run_requests or ()
    assert request.run_key == execution
    assert request.run_config["ops"]["diagnose"]["config"]["kind"] == "execution"
    kept = rig.kept(launch.id)
    assert (kept.state, kept.reason) == ("runner_failed", "Container called exit(2).")
    assert rig.states()[-1] == ("observed", "runner_failed")
    told = rig.states()
    rig.tick(SENSOR)
    rig.cursors.clear()
    rig.restart()
    rig.tick(SENSOR)
    assert rig.states() == told


def test_a_launch_whose_job_is_there_outlives_its_runner(rig: Rig) -> None:
    labelled = rig.begun("timeout")
    by_run = rig.begun("timeout", wandb_run="x1y2")
    rig.job_of(labelled.id, life=life((0, 3)))
    rig.google.jobs.add(REGION, labels={"wandb-run-id": "x1y2"}, life=life((0, 3)))
    for launch in (labelled, by_run):
        execution = started_for(rig, launch.id.hex, life=DIES)
        rig.store.change(launch.id, "runner", execution=execution)
    rig.clock.forward(PAST_THE_LAUNCHER)
    rig.tick(SENSOR)
    assert {rig.kept(launch.id).state for launch in (labelled, by_run)} == {"timeout"}


def test_a_look_up_that_fails_leaves_the_launch_for_the_next_tick(rig: Rig) -> None:
    launch = rig.begun("no_agent")
    execution = rig.google.runs.start(RUNNER, life=DIES).name
    rig.store.change(launch.id, "runner", execution=execution)
    rig.google.faults.add(faults.unavailable(), "ListCustomJobs")
    rig.clock.forward(PAST_THE_LAUNCHER)
    rig.tick(SENSOR)
    assert rig.kept(launch.id).state == "no_agent"
    rig.google.faults.clear()
    rig.clock.forward(7200)
    rig.tick(SENSOR)
    assert rig.kept(launch.id).state == "runner_failed"


def test_a_launcher_that_may_live_judges_for_itself(rig: Rig) -> None:
    launch = rig.begun("pending", execution=rig.google.runs.start(RUNNER, life=DIES).name)
    rig.clock.forward(20)
    rig.tick(SENSOR)
    assert rig.kept(launch.id).state == "pending"


@pytest.mark.parametrize(
    "ends", [ExecutionLife(runs=1, ends=2), ExecutionLife(runs=1), ExecutionLife(runs=99)]
)
def test_a_runner_that_lives_or_ended_well_is_no_news(rig: Rig, ends: ExecutionLife) -> None:
    launch = rig.begun("timeout", execution=rig.google.runs.start(RUNNER, life=ends).name)
    rig.report(launch.id)
    rig.clock.forward(PAST_THE_LAUNCHER)
    assert rig.tick(SENSOR).run_requests == []
    assert rig.kept(launch.id).state == "timeout"
    assert len(rig.told()) == 1


def test_executions_of_other_jobs_are_nobodys_business(rig: Rig) -> None:
    rig.google.runs.start(f"projects/demo/locations/{REGION}/jobs/nightly", life=DIES)
    rig.clock.forward(PAST_THE_LAUNCHER)
    assert rig.tick(SENSOR).run_requests == []
    assert rig.told() == []


def test_a_runner_that_was_cancelled_needs_no_diagnosis(rig: Rig) -> None:
    launch = rig.begun("timeout", execution=rig.google.runs.start(RUNNER).name)
    assert launch.execution is not None
    rig.google.runs._record(launch.execution).cancelled = rig.clock.now
    rig.clock.forward(PAST_THE_LAUNCHER)
    assert rig.tick(SENSOR).run_requests == []
    assert rig.kept(launch.id).state == "runner_failed"


def test_without_a_runner_a_tick_says_so(rig: Rig) -> None:
    rig.config = {name: value for name, value in rig.config.items() if name != "runner"}
    rig.restart()
    assert rig.skipped(SENSOR) == "forge.yaml has no cloud.runner: there is no runner to watch"
