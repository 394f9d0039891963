"""The assets `monitor/<table>`: the tables as Dagster keeps them."""

import subprocess
import sys
from typing import Any

import dagster as dg
import pytest
from google.cloud.aiplatform_v1.types import JobState

from forge_assets.launches.clouds import NO_SECTION
from forge_assets.launches.monitor.tables import TABLES
from forge_assets.launches.monitor_assets import build_monitor_assets
from forge_assets.project import load_project
from tests.pipeline.project import Project
from tests.wire import faults
from tests.wire.jobs import Life
from tests.wire.server import FakeGoogle
from tests.wire.wandb_server import FakeWandb

CLOUD = {
    "project": "demo",
    "regions": ["us-central1", "us-east1"],
    "wandb": {"entity": "team", "project": "vision"},
}


@pytest.fixture
def here(
    project: Project, google: FakeGoogle, wandb: FakeWandb, monkeypatch: pytest.MonkeyPatch
) -> Project:
    """This process is one of the project's."""
    project.configure(cloud=CLOUD)
    wandb.runs.add("team", "vision", "run", "running")
    environment = {**google.environment, **wandb.environment, "FORGE_DATABASE_URL": project.url}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("FORGE_CONFIG", str(project.folder / "forge.yaml"))
    return project


def materialize(*tables: str) -> dict[str, dict[str, Any]]:
    """Metadata by table."""
    assets = build_monitor_assets(load_project())
    selection = [dg.AssetKey(["monitor", name]) for name in tables] if tables else None
    done = dg.materialize(assets, selection=selection, instance=dg.DagsterInstance.ephemeral())
    return {
        event.asset_key.path[1]: dict(event.metadata)
        for event in done.get_asset_materialization_events()
        for event in [event.materialization]
    }


def records(value: Any) -> list[dict[str, Any]]:
    return [dict(record.data) for record in value.records]


def test_the_definitions_have_all_tables_in_one_operation() -> None:
    (assets,) = build_monitor_assets(load_project())
    assert {key.to_user_string() for key in assets.keys} == {f"monitor/{name}" for name in TABLES}
    assert {assets.specs_by_key[key].group_name for key in assets.keys} == {"monitor"}
    assert assets.can_subset


def test_loading_them_opens_no_cloud() -> None:
    code = (
        "import sys; from forge_assets.project import load_project\n"
        "from forge_assets.launches.monitor_assets import build_monitor_assets\n"
        "build_monitor_assets(load_project())\n"
        "print(*(name for name, module in sys.modules.items() if getattr(module, '__file__', 0)))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    heavy = {"google", "grpc", "httpx", "sqlalchemy", "torch", "wandb"}
    assert {name.split(".")[0] for name in loaded.stdout.split()} & heavy == set()


@pytest.mark.usefixtures("here")
def test_a_table_with_its_rows_and_its_regions(google: FakeGoogle) -> None:
    life = Life(((0, JobState.JOB_STATE_RUNNING), (9, JobState.JOB_STATE_FAILED)), "no ` space\x1b")
    google.jobs.add("us-east1", 1_000, life, display_name="train")
    google.faults.add(faults.denied(), "ListCustomJobs", "us-central1")
    made = materialize()
    assert set(made) == set(TABLES)
    jobs = made["vertex_jobs"]
    (row,) = records(jobs["rows"])
    assert (row["display_name"], row["state"], row["runtime"]) == ("train", "FAILED", 9.0)
    assert (row["note"], row["region_state"]) == ("no ` space\\x1b", "ok")
    central, east = records(jobs["region_states"])
    assert (central["region"], central["state"], central["age"]) == ("us-central1", "denied", None)
    assert (east["state"], east["said"]) == ("ok", "")
    assert (jobs["row_count"].value, jobs["complete"].value) == (1, False)
    assert "ERROR: no ` space\\x1b" in jobs["errors"].value
    runs = made["active_runs"]
    assert [row["run"] for row in records(runs["rows"])] == ["run"]
    assert runs["complete"].value
    columns = {column.name: column.type for column in jobs["rows"].schema.columns}
    assert (columns["runtime"], columns["job"], columns["age"]) == ("float", "string", "float")
    assert records(made["active_builds"]["rows"]) == []
    assert made["active_builds"]["rows"].schema.columns[0].name == "build"


@pytest.mark.usefixtures("here")
def test_only_the_chosen_tables_are_read(google: FakeGoogle, wandb: FakeWandb) -> None:
    assert set(materialize("active_builds", "recent_builds")) == {"active_builds", "recent_builds"}
    assert len(google.calls) == len(google.named("ListBuilds")) == 3
    assert wandb.asked == []


def test_without_the_section_it_fails_with_one_sentence(here: Project) -> None:
    here.configure()
    with pytest.raises(dg.Failure, match="has no section cloud") as caught:
        materialize("vertex_jobs")
    assert caught.value.description == NO_SECTION
