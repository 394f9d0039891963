from datetime import timedelta

import grpc
import pytest
from google.cloud.aiplatform_v1.types import JobState

from forge_assets.launches.launch_id import LABEL, VARIABLE
from forge_assets.launches.outcome import LaunchResult
from resources.errors import Refusal
from tests.launches.conftest import MakeRig
from tests.launches.rig import QUEUE, REGION, RUNNER, Rig
from tests.wire import faults
from tests.wire.http_faults import lost_answer, status
from tests.wire.jobs import Life
from tests.wire.runs import ExecutionLife
from tests.wire.wandb_queues import NOBODY, ItemLife

NEVER = ItemLife(((0, "PENDING"),))


def test_one_id_goes_from_the_queue_to_the_job(queued: Rig) -> None:
    queued.agent_takes(3.0)
    result = queued.launch()
    assert (result.outcome, result.exit_code) == ("running", 0)
    assert queued.seconds - 3.0 <= 6
    own = result.launch.hex
    [item] = queued.wandb.queues.named("team", "vertex").items
    assert item.spec["overrides"]["run_config"] == {LABEL: own}
    assert item.spec["run_id"] == own
    assert item.spec["resource_args"]["vertex"]["spec"]["labels"] == {LABEL: own}
    [execution] = queued.google.named("RunJob")
    [override] = execution.request.overrides.container_overrides
    assert {each.name: each.value for each in override.env} == {VARIABLE: own}
    kept = queued.kept(result.launch)
    assert (kept.state, kept.queue, kept.queue_item, kept.wandb_run) == (
        "running",
        "vertex",
        item.id,
        own,
    )
    assert kept.execution == result.execution
    assert kept.job_name == result.job_name
    assert queued.google.named("ListLogEntries") == []


@pytest.mark.parametrize("second", [0.5, 2.6, 4.9, 5.1, 17.0, 63.3, 118.0])
def test_a_job_is_seen_within_six_seconds(queued: Rig, second: float) -> None:
    queued.wandb.queues.life = NEVER
    queued.agent_takes(second)
    assert queued.launch().submitted
    assert queued.seconds <= second + 6


def test_the_steps_are_shown_as_they_happen(queued: Rig) -> None:
    queued.agent_takes(3.0)
    queued.launch()
    told = "\n".join(queued.told)
    for step in (
        "through queue vertex",
        "creating runner job vertex-ai-launcher",
        "starting runner",
        "runner vertex-ai-launcher-00000 starting",
        "queue item item1 in vertex",
        "polling Vertex AI every 5 s",
    ):
        assert step in told
    order = [told.index(step) for step in ("starting runner", "queue item", "polling")]
    assert order == sorted(order)


def test_a_runner_that_dies_is_reported_with_its_reason(queued: Rig) -> None:
    queued.wandb.queues.life = NOBODY
    queued.google.runs.life = ExecutionLife(ends=8.0, exit_code=1)
    said = '400 Machine type "a3-highgpu-1g" is not supported.'
    name = "vertex-ai-launcher-00000"
    died = queued.clock() + timedelta(seconds=8)
    queued.at(8.0, lambda: queued.google.logs.add_text(died, f"wandb: ERROR {said}", name))
    result = queued.launch()
    assert (result.outcome, result.exit_code) == ("runner_failed", 1)
    assert queued.seconds <= 12
    assert said in result.reason
    assert result.error_class == "config"
    assert queued.wandb.queues.named("team", "vertex").items == []
    assert queued.kept(result.launch).state == "runner_failed"


def test_a_runner_that_dies_without_a_word_is_reported_with_its_exit_code(queued: Rig) -> None:
    queued.wandb.queues.life = NOBODY
    queued.google.runs.life = ExecutionLife(ends=8.0, exit_code=2)
    result = queued.launch()
    assert result.outcome == "runner_failed"
    assert "exit(2)" in result.reason or "exit code 2" in result.reason, result.reason
    assert result.advice


def test_the_last_deed_of_a_runner_may_be_the_job(queued: Rig) -> None:
    queued.google.runs.life = ExecutionLife(ends=7.4, exit_code=1)
    queued.agent_takes(7.4)
    assert queued.launch().outcome == "pending"


def test_time_is_out_after_two_minutes_with_every_hop(queued: Rig) -> None:
    queued.wandb.queues.life = NOBODY
    result = queued.launch()
    assert (result.outcome, result.exit_code) == ("timeout", 1)
    assert 120 <= queued.seconds <= 124
    assert {hop.station: hop.state for hop in result.hops} == {
        "queue item": "PENDING",
        "runner": "RUNNING",
        "job": "none found",
        "W&B run": "not begun",
    }
    assert len(result.advice) == 3
    # The item stays, since the job may come: the same command goes on with it.
    assert len(queued.wandb.queues.named("team", "vertex").items) == 1
    queued.agent_takes(queued.seconds + 2)
    again = queued.launch()
    assert (again.launch, again.submitted) == (result.launch, True)
    assert len(queued.wandb.queues.named("team", "vertex").items) == 1
    assert len(queued.google.named("RunJob")) == 1


def test_a_time_out_names_the_hop_that_cannot_be_read(queued: Rig) -> None:
    queued.wandb.queues.life = NOBODY
    queued.at(20, lambda: queued.google.faults.add(faults.denied(), "ListCustomJobs"))
    result = queued.launch()
    assert result.outcome == "timeout"
    [job] = [hop for hop in result.hops if hop.station == "job"]
    assert "aiplatform.customJobs.list" in job.state


def test_an_idle_runner_that_went_away_is_no_agent(queued: Rig) -> None:
    queued.wandb.queues.life = NOBODY
    queued.google.runs.life = ExecutionLife(ends=20.0)
    result = queued.launch()
    assert (result.outcome, result.exit_code) == ("no_agent", 1)
    assert queued.seconds <= 24
    assert queued.wandb.queues.named("team", "vertex").items == []


def test_an_item_that_the_agent_gave_up_is_a_rejection(queued: Rig) -> None:
    queued.wandb.queues.life = ItemLife(((0, "PENDING"), (3, "CLAIMED"), (6, "FAILED")))
    result = queued.launch()
    assert (result.outcome, result.exit_code) == ("rejected", 1)
    assert queued.seconds <= 12


def test_a_live_runner_of_the_same_queue_is_used_again(queued: Rig) -> None:
    name = queued.start_runner("-q", "vertex", "-e", "team")
    queued.agent_takes(3.0)
    result = queued.launch()
    assert result.execution == name
    assert queued.google.named("RunJob") == []
    assert queued.google.named("UpdateJob") == []
    assert any("listens to vertex already" in line for line in queued.told)


@pytest.mark.parametrize(
    ("args", "life"),
    [
        (("-q", "other"), ExecutionLife()),
        (("--queue=vertex2",), ExecutionLife()),
        (("-q", "vertex"), ExecutionLife(ends=100.0)),
        (("-q", "vertex"), ExecutionLife(ends=100.0, exit_code=1)),
        ((), ExecutionLife()),
    ],
)
def test_a_runner_that_is_dead_or_listens_elsewhere_is_not_used(
    queued: Rig, args: tuple[str, ...], life: ExecutionLife
) -> None:
    old = queued.start_runner(*args, life=life)
    queued.agent_takes(3.0)
    result = queued.launch()
    assert result.execution is not None
    assert result.execution != old
    assert len(queued.google.named("UpdateJob")) == 1


def test_a_runner_job_that_is_as_wanted_is_left_alone(queued: Rig) -> None:
    queued.google.runs.life = ExecutionLife(ends=30)
    queued.agent_takes(3.0)
    queued.launch()
    queued.clock.forward(60)
    queued.wandb.queues.named("team", "vertex").items.clear()
    queued.agent_takes(queued.seconds + 3)
    second = queued.launch()
    assert second.submitted
    assert len(queued.google.named("CreateJob")) == 1
    assert queued.google.named("UpdateJob") == []
    assert len(queued.google.named("RunJob")) == 2


@pytest.mark.parametrize("fault", [faults.lost_answer(), faults.unavailable()])
def test_a_start_with_a_lost_answer_starts_one_runner(queued: Rig, fault: faults.Fault) -> None:
    queued.google.faults.add(fault, "RunJob", times=1)
    queued.agent_takes(6.0)
    assert queued.launch().submitted
    assert len(queued.google.runs._records) == 1


def test_a_refused_start_is_never_a_success_and_enqueues_nothing(queued: Rig) -> None:
    queued.google.faults.add(faults.denied("run.jobs.run"), "RunJob")
    result = queued.launch()
    assert (result.outcome, result.exit_code) == ("runner_failed", 1)
    assert "run.jobs.run" in result.reason
    assert queued.wandb.queues.named("team", "vertex").items == []


def test_a_lost_answer_of_the_queue_leaves_one_item(queued: Rig) -> None:
    queued.wandb.faults.add(lost_answer(), "pushToRunQueueByName", times=1)
    queued.agent_takes(6.0)
    result = queued.launch()
    assert result.submitted
    assert len(queued.wandb.queues.named("team", "vertex").items) == 1


def test_a_push_that_cannot_be_looked_up_is_unknown(queued: Rig) -> None:
    queued.wandb.faults.add(lost_answer(), "pushToRunQueueByName", times=1)
    queued.wandb.faults.add(status(503), "GetRunQueueItems")
    result = queued.launch()
    assert (result.outcome, result.exit_code) == ("unknown", 1)
    assert len(queued.wandb.named("pushToRunQueueByName")) == 1


def test_somebody_elses_job_in_the_region_is_not_ours(queued: Rig) -> None:
    queued.wandb.queues.life = NOBODY
    queued.at(3, lambda: queued.google.jobs.add(REGION, labels={"wandb-run-id": "a1b2"}) and None)
    queued.at(
        5,
        lambda: (
            queued.google.jobs.add(REGION, life=Life(((0, JobState.JOB_STATE_FAILED),))) and None
        ),
    )
    assert queued.launch().outcome == "timeout"


def test_without_a_runner_of_ours_the_agents_are_somebody_elses(make_rig: MakeRig) -> None:
    rig = make_rig({name: value for name, value in QUEUE.items() if name != "runner"})
    rig.wandb.queues.add_agent("team", ["vertex"])
    rig.agent_takes(4.0)
    result = rig.launch()
    assert result.submitted
    assert result.execution is None
    assert rig.google.named("RunJob") == []


def test_agents_that_went_away_are_told_as_no_agent(make_rig: MakeRig) -> None:
    rig = make_rig({name: value for name, value in QUEUE.items() if name != "runner"})
    rig.wandb.queues.add_agent("team", ["vertex"])
    rig.wandb.queues.life = NOBODY
    rig.at(10, lambda: rig.wandb.queues.agents["team"][0].update(agentStatus="KILLED"))
    result = rig.launch()
    assert result.outcome == "no_agent"
    assert "no agent polls queue vertex" in result.reason


def test_direct_goes_past_the_queue(queued: Rig) -> None:
    result = queued.launch(direct=True)
    assert (result.path, result.submitted) == ("direct", True)
    assert queued.wandb.named("pushToRunQueueByName") == []
    assert RUNNER not in queued.google.runs._jobs


def timed_out(rig: Rig) -> LaunchResult:
    rig.wandb.queues.life = NOBODY
    result = rig.launch()
    assert result.outcome == "timeout"
    return result


def items(rig: Rig) -> list[str]:
    return [item.id for item in rig.wandb.queues.named("team", "vertex").items]


@pytest.mark.parametrize("call", ["ListCustomJobs", "ListExecutions"])
def test_a_fault_on_the_way_does_not_end_a_launch_whose_item_waits(queued: Rig, call: str) -> None:
    first = timed_out(queued)
    queued.google.runs._records.clear()
    queued.google.faults.add(faults.unavailable(), call)
    second = queued.launch()
    assert (second.launch, second.outcome) == (first.launch, "unknown")
    queued.google.faults.clear()
    queued.agent_takes(queued.seconds + 3)
    third = queued.launch()
    assert (third.launch, third.submitted) == (first.launch, True)
    assert len(items(queued)) == 1


def test_a_no_go_does_not_end_a_launch_whose_item_waits(queued: Rig) -> None:
    first = timed_out(queued)
    queued.wandb.faults.add(status(503), "GetRunQueueMetadata")
    with pytest.raises(Refusal):
        queued.launch()
    assert queued.kept(first.launch).state == "unknown"


def test_an_edited_job_takes_the_old_item_back(queued: Rig, make_rig: MakeRig) -> None:
    first = timed_out(queued)
    job = {"image": "us-docker.pkg.dev/demo/r/train:v2"}
    edited = make_rig({**QUEUE, "jobs": {"train": job}})
    edited.agent_takes(3.0)
    second = edited.launch()
    assert second.launch != first.launch
    assert queued.kept(first.launch).state == "cancelled"
    [item] = queued.wandb.queues.named("team", "vertex").items
    assert item.spec["run_id"] == second.launch.hex


def test_an_old_item_that_an_agent_has_is_named_with_its_cancel(
    queued: Rig, make_rig: MakeRig
) -> None:
    queued.wandb.queues.life = ItemLife(((0, "PENDING"), (100, "CLAIMED")))
    first = queued.launch()
    assert first.outcome == "timeout"
    edited = make_rig({**QUEUE, "jobs": {"train": {"image": "us-docker.pkg.dev/demo/r/t:v2"}}})
    edited.launch()
    assert any(f"forge cancel {first.launch.hex[:8]}" in line for line in edited.told)
    assert queued.kept(first.launch).state == "timeout"


def test_a_runner_of_another_entitys_queue_is_not_used(queued: Rig) -> None:
    other = queued.start_runner("-q", "vertex", "-e", "other")
    queued.agent_takes(3.0)
    assert queued.launch().execution != other


def test_an_agent_that_fell_silent_takes_nothing(make_rig: MakeRig) -> None:
    rig = make_rig({name: value for name, value in QUEUE.items() if name != "runner"})
    rig.wandb.queues.add_agent("team", ["vertex"])
    rig.wandb.queues.life = NOBODY
    rig.at(110, lambda: rig.clock.forward(400))
    assert rig.launch().outcome == "no_agent"


def test_a_job_without_our_label_is_found_by_its_run(queued: Rig) -> None:
    def create() -> None:
        [item] = queued.wandb.queues.named("team", "vertex").items
        queued.google.jobs.add(REGION, labels={"wandb-run-id": item.spec["run_id"]})

    queued.at(3.0, create)
    assert queued.launch().submitted


def test_a_runner_job_that_cannot_be_run_is_told(queued: Rig) -> None:
    from google.cloud.run_v2.types import Condition

    def break_it() -> None:
        job = queued.google.runs._jobs[RUNNER]
        job.terminal_condition = Condition(
            type_="Ready", state=Condition.State.CONDITION_FAILED, message="no such image"
        )

    add = queued.google.runs.add_job

    def add_broken(name: str, job: object = None) -> None:
        add(name, job)  # type: ignore[arg-type]
        break_it()

    queued.google.runs.add_job = add_broken  # type: ignore[method-assign]
    result = queued.launch()
    assert (result.outcome, result.exit_code) == ("runner_failed", 1)
    assert "no such image" in result.reason
    assert items(queued) == []


def test_an_item_that_cannot_be_taken_back_keeps_the_launch_open(queued: Rig) -> None:
    queued.wandb.queues.life = NOBODY
    queued.google.runs.life = ExecutionLife(ends=8.0, exit_code=1)
    queued.wandb.faults.add(status(503), "DeleteFromRunQueue")
    result = queued.launch()
    assert (result.outcome, result.exit_code) == ("runner_failed", 1)
    assert any("forge cancel" in advice for advice in result.advice)
    assert queued.kept(result.launch).state == "unknown"
    queued.wandb.faults.clear()
    queued.google.runs.life = ExecutionLife()
    queued.agent_takes(queued.seconds + 3)
    again = queued.launch()
    assert (again.launch, again.submitted) == (result.launch, True)
    assert len(items(queued)) == 1


def test_a_runner_job_that_somebody_else_created_meanwhile_is_used(queued: Rig) -> None:
    exists = faults.WireError(grpc.StatusCode.ALREADY_EXISTS, "Resource already exists.")
    queued.google.faults.add(faults.Fault(exists, applied=True), "CreateJob", times=1)
    queued.agent_takes(3.0)
    assert queued.launch().submitted
    assert len(queued.google.named("CreateJob")) == 1
