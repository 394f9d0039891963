import re
from uuid import UUID, uuid4

import pytest
from google.cloud.aiplatform_v1.types import JobState

from forge_assets.launches.launch_id import LABEL
from resources.errors import Refusal
from resources.launch_store import Launch
from tests.launches.conftest import MakeRig
from tests.launches.rig import DIRECT, REGION, Rig
from tests.wire import faults
from tests.wire.jobs import Life

State = JobState


def lose_the_answer_and_the_list(rig: Rig) -> None:
    """From the create on: the preflight still reads the list."""
    rig.google.faults.add(faults.lost_answer(), "CreateCustomJob", times=1)
    rig.on("creating the job", lambda: rig.google.faults.add(faults.denied(), "ListCustomJobs"))


def test_a_job_is_created_once_with_our_id_and_seen(direct: Rig) -> None:
    result = direct.launch()
    assert (result.outcome, result.exit_code, result.submitted) == ("pending", 0, True)
    [job] = direct.google.jobs.all(REGION)
    assert job.labels[LABEL] == result.launch.hex
    container = job.job_spec.worker_pool_specs[0].container_spec
    assert {each.name: each.value for each in container.env} == {"FORGE_LAUNCH": result.launch.hex}
    assert container.image_uri == "us-docker.pkg.dev/demo/r/train:v1"
    assert result.job_name == job.name
    kept = direct.kept(result.launch)
    assert (kept.state, kept.job_name, kept.path) == ("pending", job.name, "direct")
    kinds = [event.kind for event in direct.launches.events(result.launch)]
    assert kinds == ["intended", "create_sent", "created", "pending"]


def test_the_intent_is_written_before_the_create_is_sent(direct: Rig) -> None:
    direct.google.faults.add(faults.denied("aiplatform.customJobs.create"), "CreateCustomJob")
    result = direct.launch()
    assert (result.outcome, result.exit_code) == ("rejected", 1)
    assert "aiplatform.customJobs.create" in result.reason
    assert result.error_class == "iam"
    kinds = [event.kind for event in direct.launches.events(result.launch)]
    assert kinds == ["intended", "create_sent", "rejected"]
    assert len(direct.google.named("CreateCustomJob")) == 1


@pytest.mark.parametrize(
    "fault", [faults.lost_answer(), faults.unavailable(), faults.throttled(0), faults.internal()]
)
def test_after_an_answer_that_tells_nothing_there_is_one_job(
    direct: Rig, fault: faults.Fault
) -> None:
    direct.google.faults.add(fault, "CreateCustomJob", times=1)
    result = direct.launch()
    assert result.exit_code == 0
    assert len(direct.google.jobs.all(REGION)) == 1
    assert len(direct.google.named("CreateCustomJob")) == (1 if fault.applied else 2)


def test_a_create_without_an_answer_is_looked_up_first(
    direct: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forge_assets.launches.directly.CREATE_SECONDS", 0.3)
    direct.google.faults.add(
        faults.Fault(seconds=0.6, applied=True, error=faults.unavailable().error),
        "CreateCustomJob",
        times=1,
    )
    direct.at(1.0, lambda: direct.google.jobs.created.acquire(timeout=10) and None)
    assert direct.launch().exit_code == 0
    assert len(direct.google.jobs.all(REGION)) == 1


def test_when_the_look_fails_the_outcome_is_unknown_and_nothing_is_sent_again(direct: Rig) -> None:
    lose_the_answer_and_the_list(direct)
    result = direct.launch()
    assert (result.outcome, result.exit_code) == ("unknown", 1)
    assert "cannot be looked up" in result.reason
    assert "aiplatform.customJobs.list" in result.reason
    assert len(direct.google.named("CreateCustomJob")) == 1
    assert direct.kept(result.launch).state == "unknown"


def test_the_same_command_goes_on_with_a_launch_that_nobody_saw(direct: Rig) -> None:
    lose_the_answer_and_the_list(direct)
    first = direct.launch()
    direct.google.faults.clear()
    second = direct.launch()
    assert second.launch == first.launch
    assert second.outcome == "pending"
    assert len(direct.google.jobs.all(REGION)) == 1
    third = direct.launch()
    assert third.launch != first.launch
    assert len(direct.google.jobs.all(REGION)) == 2


def test_a_fault_on_the_way_does_not_end_a_launch_that_may_have_a_job(direct: Rig) -> None:
    lose_the_answer_and_the_list(direct)
    first = direct.launch()
    direct.google.faults.clear()
    direct.google.faults.add(faults.unavailable(), "ListCustomJobs")
    second = direct.launch()
    assert (second.launch, second.outcome) == (first.launch, "unknown")
    direct.google.faults.clear()
    third = direct.launch()
    assert (third.launch, third.outcome) == (first.launch, "pending")
    assert len(direct.google.jobs.all(REGION)) == 1


def test_a_launch_of_hours_ago_is_not_gone_on_with(direct: Rig) -> None:
    lose_the_answer_and_the_list(direct)
    first = direct.launch()
    assert first.outcome == "unknown"
    direct.google.faults.clear()
    direct.clock.forward(4000)
    assert direct.launch().launch != first.launch


def test_an_edited_job_is_a_launch_of_its_own(direct: Rig, make_rig: MakeRig) -> None:
    lose_the_answer_and_the_list(direct)
    first = direct.launch()
    direct.google.faults.clear()
    edited = make_rig({**DIRECT, "jobs": {"train": {"image": "us-docker.pkg.dev/demo/r/t:v2"}}})
    assert edited.launch().launch != first.launch


def test_no_quota_is_a_rejection_with_advice(direct: Rig) -> None:
    direct.google.faults.add(faults.over_quota(), "CreateCustomJob")
    result = direct.launch()
    assert (result.outcome, result.error_class) == ("rejected", "quota")
    assert any("quota" in advice.lower() for advice in result.advice)
    assert len(direct.google.named("CreateCustomJob")) == 1


@pytest.mark.parametrize(
    ("state", "outcome", "code"),
    [
        (State.JOB_STATE_QUEUED, "queued", 0),
        (State.JOB_STATE_PENDING, "pending", 0),
        (State.JOB_STATE_RUNNING, "running", 0),
        (State.JOB_STATE_SUCCEEDED, "succeeded", 0),
        (State.JOB_STATE_FAILED, "failed", 1),
        (State.JOB_STATE_CANCELLED, "cancelled", 1),
        (State.JOB_STATE_EXPIRED, "expired", 1),
        (State.JOB_STATE_PARTIALLY_SUCCEEDED, "partially_succeeded", 1),
        (State.JOB_STATE_PAUSED, "unknown", 1),
        (77, "unknown", 1),
    ],
)
def test_the_state_in_which_a_job_is_first_seen_decides(
    direct: Rig, state: JobState | int, outcome: str, code: int
) -> None:
    direct.google.jobs.life = Life(((0, state),), error="The replica ran out of memory.")
    result = direct.launch()
    assert (result.outcome, result.exit_code) == (outcome, code)
    if outcome == "failed":
        assert result.reason == "The replica ran out of memory."
    assert bool(result.sentence) == bool(code)
    assert direct.kept(result.launch).state == outcome


def test_a_foreign_job_of_a_moment_ago_is_never_ours(direct: Rig) -> None:
    direct.google.jobs.add(REGION, age_seconds=5, labels={LABEL: "f" * 32})
    direct.google.jobs.add(REGION, age_seconds=5)
    direct.google.faults.add(faults.denied("aiplatform.customJobs.create"), "CreateCustomJob")
    assert direct.launch().outcome == "rejected"
    direct.google.faults.clear()
    direct.google.faults.add(faults.unavailable(), "CreateCustomJob")
    result = direct.launch()
    # Three times without an answer that tells: it may come, and the same command goes on.
    assert (result.outcome, result.job_name) == ("unknown", None)
    assert len(direct.google.named("CreateCustomJob")) == 4


def test_two_jobs_of_one_launch_are_told(direct: Rig) -> None:
    """The first create has its effect after both looks for it."""
    direct.google.faults.add(faults.unavailable(), "CreateCustomJob", times=1)

    def apply_late() -> None:
        spec = direct.google.named("CreateCustomJob")[0].request.custom_job
        direct.google.jobs.add(REGION, age_seconds=3, labels=dict(spec.labels))

    direct.on("attempt 2", apply_late)
    result = direct.launch()
    assert result.exit_code == 0
    assert len(result.duplicates) == 1
    assert result.job_name not in result.duplicates


def test_two_launches_at_once_have_one_winner(direct: Rig, make_rig: MakeRig) -> None:
    lease = direct.lease()
    assert lease.try_acquire()
    intent = Launch(uuid4(), "intended", "direct", "train", "demo", REGION, holder="bob@host pid 9")
    direct.launches.begin(intent)
    with pytest.raises(Refusal) as refused:
        make_rig(DIRECT).launch()
    assert re.search(
        rf"train is being launched already: launch {intent.id.hex[:8]} by bob@host pid 9"
        r" since \d\d:\d\d:\d\d UTC holds the lease",
        str(refused.value),
    )
    assert direct.google.named("CreateCustomJob") == []
    lease.release()
    assert direct.launch().exit_code == 0


def test_scheduling_and_pools_reach_the_api(make_rig: MakeRig) -> None:
    job = {
        "image": "us-docker.pkg.dev/demo/r/train:v1",
        "command": ["python"],
        "args": ["-m", "train"],
        "env": {"EPOCHS": "3"},
        "machine": "g2-standard-12",
        "accelerator": "NVIDIA_L4",
        "replicas": 3,
        "scheduling": "flex-start",
        "max_wait": "2h",
        "timeout": "1d",
    }
    rig = make_rig(
        {
            **DIRECT,
            "jobs": {"train": job},
            "service_account": "trainer@demo.iam.gserviceaccount.com",
            "staging_bucket": "gs://bucket/out/",
        }
    )
    result = rig.launch()
    [made] = rig.google.jobs.all(REGION)
    spec = made.job_spec
    assert [pool.replica_count for pool in spec.worker_pool_specs] == [1, 2]
    assert spec.scheduling.strategy.name == "FLEX_START"
    assert spec.scheduling.max_wait_duration.total_seconds() == 7200
    assert spec.scheduling.timeout.total_seconds() == 86400
    assert spec.service_account == "trainer@demo.iam.gserviceaccount.com"
    assert spec.base_output_directory.output_uri_prefix == (
        f"gs://bucket/out/train-{result.launch.hex[:8]}"
    )
    assert UUID(made.labels[LABEL]) == result.launch


GPU_JOB = {
    "image": "us-docker.pkg.dev/demo/r/train:v1",
    "machine": "a2-highgpu-1g",
    "accelerator": "NVIDIA_TESLA_A100",
}


def test_a_refusal_for_want_of_quota_names_other_regions(make_rig: MakeRig) -> None:
    rig = make_rig({**DIRECT, "jobs": {"train": GPU_JOB}})
    rig.google.faults.add(faults.over_quota(), "CreateCustomJob")
    result = rig.launch()
    assert (result.outcome, result.error_class) == ("rejected", "quota")
    assert any("try `region: " in advice for advice in result.advice)
    assert not any(f"region: {REGION}" in advice for advice in result.advice)


def test_a_job_that_waits_for_quota_is_submitted_with_advice(make_rig: MakeRig) -> None:
    rig = make_rig({**DIRECT, "jobs": {"train": GPU_JOB}})
    rig.google.jobs.life = Life(((0, State.JOB_STATE_QUEUED),))
    result = rig.launch()
    assert (result.outcome, result.exit_code, result.submitted) == ("queued", 0, True)
    assert any("try `region: " in advice for advice in result.advice)
