import grpc
import pytest
from google.cloud.aiplatform_v1.types import JobState

from forge_assets.launches.cancel import Cancelled, cancel
from resources.errors import Refusal
from tests.launches.rig import REGION, Rig
from tests.wire import faults as wire_faults
from tests.wire.jobs import Life
from tests.wire.wandb_queues import NOBODY, ItemLife


def cancelled(rig: Rig, name: str, held: bool = False) -> Cancelled:
    return cancel(name, rig.clouds, rig.launches, lambda _: held, rig.wait, rig.told.append)


def test_a_launched_job_is_cancelled_by_the_first_digits_of_its_id(direct: Rig) -> None:
    result = direct.launch()
    ended = cancelled(direct, result.launch.hex[:8])
    assert (ended.done, ended.state, ended.job) == (True, "CANCELLED", result.job_name)
    assert direct.kept(result.launch).state == "cancelled"
    assert direct.google.jobs.all(REGION)[0].state == JobState.JOB_STATE_CANCELLED
    again = cancelled(direct, result.launch.hex[:8])
    assert (again.done, again.state) == (True, "CANCELLED")
    assert len(direct.google.named("CancelCustomJob")) == 1


def test_what_has_succeeded_is_not_cancelled(direct: Rig) -> None:
    direct.google.jobs.life = Life(((0, JobState.JOB_STATE_SUCCEEDED),))
    result = direct.launch()
    ended = cancelled(direct, str(result.launch))
    assert (ended.done, ended.state) == (False, "SUCCEEDED")
    assert direct.google.named("CancelCustomJob") == []


def test_an_item_that_nobody_took_is_taken_back(queued: Rig) -> None:
    queued.wandb.queues.life = NOBODY
    result = queued.launch()
    assert result.outcome == "timeout"
    ended = cancelled(queued, result.launch.hex)
    assert (ended.done, ended.job) == (True, "")
    assert queued.wandb.queues.named("team", "vertex").items == []
    assert queued.kept(result.launch).state == "cancelled"


def test_an_item_that_became_a_job_is_a_job(queued: Rig) -> None:
    queued.agent_takes(3.0)
    result = queued.launch()
    ended = cancelled(queued, result.launch.hex)
    assert (ended.state, ended.job) == ("CANCELLED", result.job_name)


def test_a_job_of_somebody_else_is_found_in_any_region(direct: Rig) -> None:
    name = direct.google.jobs.add("europe-west4")
    ended = cancelled(direct, name.rsplit("/", 1)[-1])
    assert (ended.done, ended.state) == (True, "CANCELLED")
    assert ended.job == name


def test_a_launch_that_is_being_made_is_left_alone(direct: Rig) -> None:
    result = direct.launch()
    with pytest.raises(Refusal, match="is being made by ada@box pid 7"):
        cancelled(direct, result.launch.hex, held=True)
    assert direct.google.named("CancelCustomJob") == []


@pytest.mark.parametrize("name", ["zzz", "12345", "%", "ffffffff"])
def test_a_name_that_nothing_has_is_refused_with_the_newest(direct: Rig, name: str) -> None:
    result = direct.launch()
    with pytest.raises(Refusal, match=f"no launch has this id or name.*{result.launch.hex[:8]}"):
        cancelled(direct, name)


def test_an_item_that_an_agent_has_is_waited_for(queued: Rig) -> None:
    queued.wandb.queues.life = ItemLife(((0, "PENDING"), (119, "CLAIMED")))
    result = queued.launch()
    assert result.outcome == "timeout"
    queued.agent_takes(queued.seconds + 5)
    ended = cancelled(queued, result.launch.hex)
    assert (ended.done, ended.state) == (True, "CANCELLED")


def test_an_item_that_an_agent_has_without_a_job_is_not_called_cancelled(queued: Rig) -> None:
    queued.wandb.queues.life = ItemLife(((0, "PENDING"), (119, "CLAIMED")))
    result = queued.launch()
    ended = cancelled(queued, result.launch.hex)
    assert (ended.done, ended.job) == (False, "")
    assert "its job may come" in ended.sentence
    assert queued.kept(result.launch).state == "timeout"
    assert len(queued.wandb.queues.named("team", "vertex").items) == 1


def test_a_job_that_is_known_only_by_its_name_is_cancelled(queued: Rig) -> None:
    def create() -> None:
        [item] = queued.wandb.queues.named("team", "vertex").items
        queued.google.jobs.add(REGION, labels={"wandb-run-id": item.spec["run_id"]})

    queued.at(3.0, create)
    result = queued.launch()
    ended = cancelled(queued, result.launch.hex)
    assert (ended.done, ended.state, ended.job) == (True, "CANCELLED", result.job_name)


def test_a_runner_is_no_launch(queued: Rig) -> None:
    queued.agent_takes(3.0)
    result = queued.launch()
    assert result.execution is not None
    with pytest.raises(Refusal, match="is a runner"):
        cancelled(queued, result.execution.rsplit("/", 1)[-1])
    assert queued.google.named("CancelCustomJob") == []


def test_a_job_that_ends_while_it_is_cancelled_stays_as_it_ended(direct: Rig) -> None:
    result = direct.launch()
    ended = wire_faults.Fault(
        wire_faults.WireError(grpc.StatusCode.FAILED_PRECONDITION, "The CustomJob has ended.")
    )
    direct.google.faults.add(ended, "CancelCustomJob")
    assert cancelled(direct, result.launch.hex).done is False
