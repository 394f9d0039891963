"""The asset `launches`: a launch by Dagster is the launch by the command."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from forge_assets.launches.assets import LAUNCHES, build_launches
from forge_assets.project import load_project
from resources.database import PROJECT_ROOT, open_engine
from resources.launch_store import LaunchStore
from tests.launches.test_launch_command import CLOUD, CONFIG, REGION
from tests.wire import faults
from tests.wire.server import FakeGoogle


@pytest.fixture
def google() -> Iterator[FakeGoogle]:
    with FakeGoogle() as made:
        yield made


@pytest.fixture
def instance(
    tmp_path: Path,
    google: FakeGoogle,
    ready_postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[dg.DagsterInstance]:
    (tmp_path / "forge.yaml").write_text(CONFIG + CLOUD)
    (tmp_path / "flow.yaml").write_text(
        "workflow: flow\nsteps: [{name: say, model: small, prompt: hello}]\n"
    )
    for name, address in google.environment.items():
        monkeypatch.setenv(name, address)
    monkeypatch.setenv("FORGE_CONFIG", str(tmp_path / "forge.yaml"))
    monkeypatch.setenv("FORGE_DATABASE_URL", ready_postgres_url)
    monkeypatch.setenv("DAGSTER_HOME", str(PROJECT_ROOT))
    with dg.DagsterInstance.get() as made:
        yield made


def materialize(
    instance: dg.DagsterInstance, config: dict[str, object] | None
) -> dg.ExecuteInProcessResult:
    given = {"ops": {"launches": {"config": config}}} if config else None
    return dg.materialize(
        [build_launches(load_project())],
        instance=instance,
        run_config=given,
        raise_on_error=False,
    )


def failure(result: dg.ExecuteInProcessResult) -> str:
    [event] = [event for event in result.all_events if event.is_step_failure]
    data = event.step_failure_data.user_failure_data
    assert data is not None
    return str(data.description)


def test_materializing_launches_one_job_and_tells_of_it(
    instance: dg.DagsterInstance, google: FakeGoogle
) -> None:
    result = materialize(instance, {"job": "train"})
    assert result.success
    [job] = google.jobs.all(REGION)
    [told] = instance.fetch_materializations(LAUNCHES, limit=10).records
    assert told.asset_materialization is not None
    metadata = told.asset_materialization.metadata
    assert metadata["resource"].value == job.name
    assert metadata["state"].value == "pending"
    kept = LaunchStore(open_engine()).recent(5, "demo")
    assert [(launch.job_name, launch.reported) for launch in kept] == [(job.name, "pending")]


def test_materializing_everything_launches_nothing(
    instance: dg.DagsterInstance, google: FakeGoogle
) -> None:
    result = materialize(instance, None)
    assert failure(result).startswith("say in the run config which job to launch")
    assert google.calls == []


def test_a_rejected_launch_fails_the_run_with_the_apis_own_words(
    instance: dg.DagsterInstance, google: FakeGoogle
) -> None:
    google.faults.add(faults.denied("aiplatform.customJobs.create"), "CreateCustomJob")
    result = materialize(instance, {"job": "train"})
    assert "aiplatform.customJobs.create" in failure(result)
    assert instance.fetch_materializations(LAUNCHES, limit=10).records == []
