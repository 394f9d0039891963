"""`forge diagnose`: what a name stands for, where it is looked for, what is printed, the exit code."""

import json
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa
from google.cloud.aiplatform_v1.types import JobState

from forge_assets.cli import diagnose as command
from forge_assets.cloud_config import CloudConfig
from forge_assets.launches.catalogue import Retry
from forge_assets.launches.clouds import NO_SECTION, Clouds
from forge_assets.launches.diagnosed import RETRY_RULES, Diagnosed, diagnose
from resources.cloud.credentials import access
from resources.cloud.regions import REGIONS
from resources.diagnosis_store import DiagnosisStore
from resources.errors import ConfigurationError, Refusal
from resources.launch_store import Launch, LaunchStore
from tests.launches.diagnosing import (
    EXITED,
    OUT_OF_MEMORY,
    TRACEBACK,
    failed_execution,
    job_that,
    short,
    write_job_log,
    write_log,
)
from tests.pipeline.project import Project, pair, texts
from tests.wire import faults
from tests.wire.clock import HandClock
from tests.wire.jobs import Life
from tests.wire.runs import ExecutionLife
from tests.wire.server import FakeGoogle

FAILED = JobState.JOB_STATE_FAILED


@pytest.fixture
def launches(postgres_engine: sa.Engine) -> LaunchStore:
    return LaunchStore(postgres_engine)


@pytest.fixture
def ask(
    google: FakeGoogle, clock: HandClock, launches: LaunchStore, postgres_engine: sa.Engine
) -> Callable[[str], Diagnosed]:
    clouds = Clouds(CloudConfig(), access("demo", google.environment), google.environment)
    diagnoses = DiagnosisStore(postgres_engine)
    return lambda name: diagnose(name, clouds, launches, diagnoses, clock)


def begun(launches: LaunchStore, **columns: str) -> Launch:
    launch = launches.begin(Launch(uuid4(), "pending", "direct", "train", "demo", "us-central1"))
    launches.change(launch.id, "found", **columns)
    return launch


def executions_asked(google: FakeGoogle) -> list[str]:
    return [call.region for call in google.named("GetExecution")]


def test_every_rule_has_words() -> None:
    assert set(RETRY_RULES) == set(Retry.__args__)


def test_an_execution_in_the_runners_region_by_either_name(
    google: FakeGoogle, clock: HandClock, ask: Callable[[str], Diagnosed]
) -> None:
    name = failed_execution(google)
    write_log(google, name, clock.now, TRACEBACK)
    for given in (short(name), name):
        found = ask(given)
        assert (found.name, found.state, found.is_answered) == (name, "FAILED", True)
        assert found.reason.text == "ValueError: no rows"
    assert executions_asked(google) == ["us-central1"] * 2


def test_what_is_elsewhere_is_found_in_all_regions_at_once(
    google: FakeGoogle, ask: Callable[[str], Diagnosed]
) -> None:
    far = "projects/demo/locations/asia-northeast1/jobs/far"
    google.runs.add_job(far)
    execution = google.runs.start(far, 60, ExecutionLife(ends=1)).name
    assert ask(short(execution)).is_answered
    assert sorted(executions_asked(google)) == sorted(REGIONS)
    job = google.jobs.add("europe-west4", 100, Life(((0, FAILED),), EXITED))
    assert ask(short(job)).name == job


def test_what_is_nowhere_is_refused_with_where_it_was_looked_for(
    google: FakeGoogle, ask: Callable[[str], Diagnosed]
) -> None:
    google.faults.add(faults.denied("run.executions.get"), region="us-east4")
    with pytest.raises(Refusal, match="no such execution, Vertex AI job or launch") as caught:
        ask("nothing-abcde")
    sentence = str(caught.value)
    assert all(region in sentence for region in REGIONS)
    assert "not searched: us-east4 (Permission" in sentence
    with pytest.raises(Refusal, match="there is none"):
        ask("projects/demo/locations/us-east1/customJobs/77")
    with pytest.raises(ConfigurationError, match="name an execution"):
        ask("jobs/x")


def test_a_launch_is_its_job_or_its_execution_or_what_it_was_told(
    google: FakeGoogle, launches: LaunchStore, ask: Callable[[str], Diagnosed]
) -> None:
    execution = failed_execution(google)
    quota = "aiplatform.googleapis.com/custom_model_training_nvidia_l4_gpus: over quota"
    job = job_that(google, FAILED, quota, ran=False)
    with_job = begun(launches, execution=execution, job_name=job)
    found = ask(with_job.id.hex[:10])
    assert (found.name, found.launch and found.launch.id) == (job, with_job.id)
    assert ask(short(job)).name == job
    without = begun(launches, execution=execution)
    assert ask(str(without.id)).name == execution
    # Two launches went through it: it is what was named.
    assert (ask(short(execution)).name, ask(short(execution)).launch) == (execution, None)
    refused = begun(launches, state="rejected", reason=quota)
    told = ask(str(refused.id))
    assert (told.name, told.state, told.is_answered) == (str(refused.id), "rejected", True)
    assert (told.reason.source, told.reason.cause and told.reason.cause.entry.id) == (
        "launch",
        "V01",
    )
    assert not ask(str(begun(launches).id)).is_answered


def test_it_is_answered_when_fine_or_explained(
    google: FakeGoogle, ask: Callable[[str], Diagnosed]
) -> None:
    for state in (JobState.JOB_STATE_SUCCEEDED, JobState.JOB_STATE_RUNNING):
        assert ask(job_that(google, state)).is_answered
    assert ask(job_that(google, JobState.JOB_STATE_EXPIRED)).is_answered
    silent = ask(job_that(google, FAILED, ran=False))
    assert not silent.is_answered
    assert silent.reason.text == "it is FAILED, error code 3, nothing tells why"
    a_state_to_come = 99
    assert not ask(google.jobs.add("us-central1", life=Life(((0, a_state_to_come),)))).is_answered


# The command.


@pytest.fixture
def project(
    tmp_path: Path,
    forge_database: str,
    weights_cache: Path,
    google: FakeGoogle,
    monkeypatch: pytest.MonkeyPatch,
) -> Project:
    made = Project(tmp_path, forge_database, weights_cache)
    made.configure(cloud={"project": "demo"})
    made.write_subjects(texts(1))
    made.write_workflow(pair())
    monkeypatch.setenv("FORGE_CONFIG", str(tmp_path / "forge.yaml"))
    for name, value in google.environment.items():
        monkeypatch.setenv(name, value)
    return made


def test_plain_text_and_json_have_the_same_fields(
    project: Project, google: FakeGoogle, clock: HandClock, capsys: pytest.CaptureFixture[str]
) -> None:
    name = job_that(google, FAILED, EXITED)
    write_job_log(google, name, clock.now, OUT_OF_MEMORY, "\x1b[31mred")
    assert command.show(short(name), as_json=False) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"{name}\nstate    FAILED, ended {clock.now:%Y-%m-%d %H:%M:%S} UTC\n")
    assert "reason   torch.OutOfMemoryError: CUDA out of memory." in text
    assert "class    oom_gpu (G01)\nretry    try again when a person" in text
    assert "advice   Lower the batch size" in text
    assert '\nlog around the cause:\n  Traceback (most recent call last):\n    File "/app' in text
    assert text.endswith("  \\x1b[31mred\n")

    assert command.show(short(name), as_json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["name"], told["state"], told["launch"]) == (name, "FAILED", None)
    assert (told["class"], told["id"], told["source"]) == ("oom_gpu", "G01", "log")
    assert told["retry"] == RETRY_RULES["fix"]
    assert told["reason"] == told["context"][-2]
    assert told["ended"] == clock.now.isoformat()


def test_a_failure_that_nothing_explains_is_exit_1(
    project: Project, google: FakeGoogle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.show(job_that(google, FAILED, ran=False), as_json=False) == 1
    assert "log      no log lines" in capsys.readouterr().out


def test_without_the_section_it_is_a_configuration_error(project: Project) -> None:
    project.configure()
    with pytest.raises(ConfigurationError, match=NO_SECTION.split(":")[0]):
        command.show("x-y", as_json=False)


def test_every_step_of_a_launch_is_told(
    launches: LaunchStore, ask: Callable[[str], Diagnosed]
) -> None:
    launch = begun(launches, state="rejected", reason="no quota")
    found = ask(str(launch.id))
    assert [event.kind for event in found.history] == ["intended", "found"]
    assert [step["kind"] for step in found.as_json()["history"]] == ["intended", "found"]
