"""The job `diagnose_launch` and the books that reports keep."""

from typing import Any

import dagster as dg
import pytest
from google.cloud.aiplatform_v1.types import JobState

from forge_assets.cloud_config import CloudConfig
from forge_assets.launches import diagnose_job
from forge_assets.launches.diagnose_job import build_diagnose_job, diagnosis_request
from forge_assets.launches.outcome import LaunchResult
from forge_assets.launches.reporting import metadata_of
from forge_assets.project import load_project
from tests.sensors.rig import CONFIG, REGION, RUNNER, Rig, life
from tests.wire import faults
from tests.wire.runs import ExecutionLife

FULL = (
    "The following quota metrics exceed quota limits: aiplatform.googleapis.com/custom_model_gpus"
)
FAILED = life((0, JobState.JOB_STATE_FAILED), error=FULL)


@pytest.fixture
def run(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs what a request asks for, in this process."""
    for name, value in {**rig.google.environment, **rig.wandb.environment}.items():
        monkeypatch.setenv(name, value)
    project = load_project()
    object.__setattr__(project.config, "cloud", CloudConfig.model_validate(CONFIG))
    job = build_diagnose_job(project)

    def execute(request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        return job.execute_in_process(
            run_config=request.run_config, instance=rig.instance, raise_on_error=False
        )

    return execute


def test_a_failed_job_gets_its_reason_class_and_advice(rig: Rig, run: Any) -> None:
    launch = rig.begun("running")
    job = rig.job_of(launch.id, age_seconds=300, life=FAILED)
    rig.store.change(launch.id, "ended", state="failed", job_name=job)
    assert run(diagnosis_request(job, REGION, "job", launch.id)).success
    kept = rig.kept(launch.id)
    assert (kept.state, kept.reason) == ("failed", FULL)
    assert rig.store.events(launch.id)[-1].kind == "diagnosed"
    (told,) = rig.told()
    assert told.metadata["launch"] == str(launch.id)
    assert told.metadata["reason"] == FULL
    assert told.metadata["error_class"]
    assert told.metadata["advice"]


def test_a_failed_runner_explains_the_launches_that_never_had_a_job(rig: Rig, run: Any) -> None:
    rig.google.runs.add_job(RUNNER)
    ends = ExecutionLife(runs=1, ends=2, exit_code=1, message="Container called exit(1).")
    execution = rig.google.runs.start(RUNNER, age_seconds=600, life=ends).name
    lost = rig.begun("runner_failed", execution=execution)
    went_on = rig.begun(
        "running", execution=execution, job_name=rig.google.jobs.add(REGION, life=life((0, 3)))
    )
    assert run(diagnosis_request(execution, REGION, "execution")).success
    assert rig.kept(lost.id).reason
    assert rig.kept(went_on.id).reason is None
    assert rig.told()[-1].metadata["launch"] == str(lost.id)


def test_what_passes_by_itself_is_tried_again_and_what_does_not_is_one_sentence(
    rig: Rig, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnose_job, "RETRY_SECONDS", 0)
    launch = rig.begun("failed")
    job = rig.job_of(launch.id, age_seconds=300, life=FAILED)
    rig.google.faults.add(faults.unavailable(), "GetCustomJob", times=1)
    assert run(diagnosis_request(job, REGION, "job")).success

    rig.google.faults.add(faults.denied(), "GetCustomJob")
    failed = run(diagnosis_request(job, REGION, "job"))
    assert not failed.success
    assert "Permission" in str(failed.failure_data_for_node("diagnose").user_failure_data)


def test_a_run_and_a_report_give_the_same_names(rig: Rig) -> None:
    job = f"projects/1/locations/{REGION}/customJobs/1"
    launch = rig.begun("running", job_name=job)
    rig.report(launch.id)
    result = LaunchResult(
        launch.id, "train", "direct", "demo", REGION, "running", 4.2, job, "RUNNING", 3.0
    )
    by_run = metadata_of(result)
    reported = rig.told()[0].metadata
    assert {name: by_run[name] for name in reported.keys() - {"age_seconds"}} == {
        name: value for name, value in reported.items() if name != "age_seconds"
    }


def test_a_report_that_fails_is_made_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    launch = rig.begun("running", job_name=f"projects/1/locations/{REGION}/customJobs/1")
    with monkeypatch.context() as patch:
        patch.setattr(type(rig.instance), "report_runless_asset_event", _broken)
        with pytest.raises(ConnectionError):
            rig.report(launch.id)
    assert rig.kept(launch.id).reported == ""
    assert rig.report(launch.id) == 1


def _broken(*_: object) -> None:
    raise ConnectionError("Dagster's storage is away")
