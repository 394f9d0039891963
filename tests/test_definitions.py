"""What Dagster sees: the names that outsiders rely on, and that loading them is cheap and quiet."""

import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from forge_assets.config import Thresholds
from forge_assets.definitions import defs
from forge_assets.stage_checks import check_stage, check_step
from resources.stage_counts import StageCounts

GRAPH = defs.resolve_asset_graph()
ROOT = Path(__file__).parents[1]
HEAVY = (
    "alembic",
    "google",
    "grpc",
    "httpx",
    "jsonschema",
    "matplotlib",
    "PIL",
    "psycopg2",
    "pyarrow",
    "sqlalchemy",
    "torch",
    "transformers",
    "wandb",
)
STEPS = ("summarize", "classify", "grade", "rewrite")
PIPELINE = {
    "subjects",
    "model_weights",
    "api_review/gate",
    *(f"api_review/{step}" for step in STEPS),
    "api_review/results",
}
TABLES = {
    "runner_executions",
    "active_builds",
    "recent_builds",
    "vertex_jobs",
    "active_runs",
    "completed_runs",
}
UNPARTITIONED = {
    "subjects",
    "model_weights",
    "launches",
    *(f"monitor/{table}" for table in TABLES),
}
ASSETS = PIPELINE | UNPARTITIONED
SENSORS = {
    "vertex_job_sensor",
    "cloud_run_execution_sensor",
    "stuck_agent_sensor",
    "check_alert_sensor",
    "run_failure_alert_sensor",
}
STAGES = ["canary-10", "ramp-50", "full-500", *(f"batch-{n:04d}" for n in range(1, 201))]
RESULTS_CHECKS = {
    "rejection_rate": True,
    "error_rate": True,
    "throughput": True,
    "nothing_lost": True,
    "success_rate": False,
}
STEP_CHECKS = {"rejection_rate": False, "error_rate": False}
"""Name -> whether it blocks."""


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_loading_is_quiet_and_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORGE_CONFIG", "PYTHONWARNINGS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FORGE_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    # Namespace packages of installed .pth files stand in sys.modules without a file.
    loaded = python(
        "-c",
        "import sys\n"
        "from forge_assets.definitions import defs\n"
        "defs.get_repository_def()\n"
        "print(*(name for name, module in sys.modules.items() if getattr(module, '__file__', 0)))",
    )
    assert (loaded.returncode, loaded.stderr) == (0, "")
    modules = loaded.stdout.split()
    assert "forge_assets.definitions" in modules
    assert [name for name in modules if name.split(".")[0] in HEAVY] == []


@pytest.mark.usefixtures("forge_database")
def test_dagster_validates_the_definitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(ROOT))
    monkeypatch.delenv("FORGE_CONFIG", raising=False)
    validated = python("-m", "dagster", "definitions", "validate", "-m", "forge_assets.definitions")
    assert validated.returncode == 0, validated.stderr
    assert "PreviewWarning" not in validated.stdout + validated.stderr


def test_asset_keys() -> None:
    assert {key.to_user_string() for key in GRAPH.get_all_asset_keys()} == ASSETS


def test_the_documented_selection_takes_every_layer() -> None:
    selection = dg.AssetSelection.from_string('+key:"api_review/results"')
    assert {key.to_user_string() for key in selection.resolve(GRAPH)} == PIPELINE


def test_partitions_are_the_stages_of_the_shipped_configuration() -> None:
    for key in GRAPH.get_all_asset_keys():
        partitions = GRAPH.get(key).partitions_def
        if key.to_user_string() in UNPARTITIONED:
            assert partitions is None
        else:
            assert isinstance(partitions, dg.StaticPartitionsDefinition)
            assert partitions.get_partition_keys() == STAGES


def test_the_alert_sensors_run_the_others_wait_for_a_switch_or_for_a_cloud() -> None:
    sensors = {sensor.name: sensor.default_status for sensor in defs.sensors or ()}
    for name in ("check_alert_sensor", "run_failure_alert_sensor"):
        assert sensors.pop(name) == dg.DefaultSensorStatus.RUNNING
    waiting = [*set(SENSORS) - {"check_alert_sensor", "run_failure_alert_sensor"}]
    expected = dict.fromkeys([*waiting, "stage_progress_sensor"], dg.DefaultSensorStatus.STOPPED)
    assert sensors == expected


def test_one_run_per_partition() -> None:
    assert {GRAPH.get(key).backfill_policy for key in GRAPH.get_all_asset_keys()} == {None}


def test_checks_and_what_they_block() -> None:
    declared: dict[str, dict[str, bool]] = {}
    for key in GRAPH.asset_check_keys:
        declared.setdefault(key.asset_key.to_user_string(), {})[key.name] = GRAPH.get(key).blocking
        assert GRAPH.get(key).partitions_def == GRAPH.get(key.asset_key).partitions_def
    steps = {f"api_review/{step}": STEP_CHECKS for step in STEPS}
    assert declared == {"api_review/results": RESULTS_CHECKS, **steps}


def test_the_declared_checks_are_the_judged_ones() -> None:
    """A blocking outcome reaches Dagster as ERROR, another as WARN."""
    counts, limits = StageCounts("canary-10", 0, 10), Thresholds()
    judged = {outcome.name: outcome.blocking for outcome in check_stage(counts, limits)}
    assert judged == RESULTS_CHECKS
    assert {outcome.name: outcome.blocking for outcome in check_step(counts, limits)} == STEP_CHECKS


def test_every_step_of_a_run_shares_one_process() -> None:
    job = defs.resolve_implicit_global_asset_job_def()
    assert job.executor_def is dg.in_process_executor
