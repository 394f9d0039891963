"""Dagster's storage in the project's database, through the repository's own dagster.yaml."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy
import yaml

from resources.dagster_storage import ForgeDagsterStorage, is_forge_instance
from resources.database import create_engine
from resources.postgres_instance import locate
from tests.postgres import in_temporary_home, python_path, remove_instance

PROJECT_ROOT = Path(__file__).resolve().parents[2]

ASSETS = """
import dagster as dg
from resources.dagster_storage import is_forge_instance

@dg.asset
def one(context: dg.AssetExecutionContext) -> None:
    assert is_forge_instance(context.instance)

defs = dg.Definitions(assets=[one], executor=dg.in_process_executor)
"""


@pytest.fixture
def dagster_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(PROJECT_ROOT / "dagster.yaml", tmp_path)
    (tmp_path / "toy_assets.py").write_text(ASSETS)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", python_path(PROJECT_ROOT, tmp_path))
    return tmp_path


def materialize() -> "subprocess.Popen[str]":
    command = ["-m", "dagster", "asset", "materialize", "-m", "toy_assets", "--select", "one"]
    return subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No embedded server was ever started here."""
    home = tmp_path / "home"
    home.mkdir()
    for name, value in in_temporary_home(home).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("FORGE_DATABASE_URL", raising=False)
    yield
    remove_instance(locate(PROJECT_ROOT, home / "data" / "forge-assets"))


def test_runs_at_once_on_a_bare_machine(dagster_home: Path, bare_machine: None) -> None:
    runs = [materialize() for _ in range(3)]
    for run in runs:
        output, _ = run.communicate()
        assert run.returncode == 0, output
        assert "RUN_SUCCESS" in output


def test_tables_lie_in_public(dagster_home: Path, forge_database: str) -> None:
    with dg.DagsterInstance.get() as instance:
        result = dg.materialize([noted], instance=instance)
        assert instance.get_latest_materialization_event(noted.key) is not None
        assert instance.get_run_by_id(result.run_id) is not None
    engine = create_engine(forge_database)
    tables = sqlalchemy.inspect(engine)
    assert {"runs", "event_logs", "job_ticks"} <= set(tables.get_table_names(schema="public"))
    assert "event_logs" not in tables.get_table_names(schema="forge")
    engine.dispose()


@dg.asset
def noted() -> None:
    """An asset with an event to find again."""


def test_events_go_over_kept_connections(dagster_home: Path, forge_database: str) -> None:
    with dg.DagsterInstance.get() as instance:
        admin = create_engine(forge_database, poolclass=sqlalchemy.NullPool)
        before = backends(admin)
        dg.materialize([noted], instance=instance)
        kept = backends(admin)
        assert len(kept) <= len(before) + 2
        dg.materialize([noted], instance=instance)
        assert backends(admin) == kept
        end_backends(admin)
        assert dg.materialize([noted], instance=instance).success
    admin.dispose()


def backends(engine: sqlalchemy.Engine) -> set[int]:
    """Processes that serve the database, but for this question's own."""
    with engine.connect() as connection:
        return set(connection.execute(sqlalchemy.text(_BACKENDS)).scalars())


def end_backends(engine: sqlalchemy.Engine) -> None:
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"SELECT pg_terminate_backend(pid) FROM ({_BACKENDS})"))


_BACKENDS = """
SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"""


def test_own_instance_and_others(
    dagster_home: Path, forge_database: str, empty_postgres_url: str, tmp_path: Path
) -> None:
    with dg.DagsterInstance.get() as instance:
        assert is_forge_instance(instance)
        assert isinstance(instance.get_ref().storage, ForgeDagsterStorage)
    with dg.DagsterInstance.ephemeral() as instance:
        assert not is_forge_instance(instance)
    for url, expected in ((forge_database, True), (empty_postgres_url, False)):
        settings = {"storage": {"postgres": {"postgres_url": url}}}
        (dagster_home / "dagster.yaml").write_text(yaml.safe_dump(settings))
        with dg.DagsterInstance.get() as instance:
            assert is_forge_instance(instance) is expected


def test_unreachable_database_is_one_sentence(
    dagster_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORGE_DATABASE_URL", "postgresql://user:hidden-word@127.0.0.1:1/name")
    run = materialize()
    output, _ = run.communicate()
    assert run.returncode == 1
    assert output.count("FORGE_DATABASE_URL: database 'name' at 127.0.0.1:1 cannot be used") == 1
    assert "hidden-word" not in output
