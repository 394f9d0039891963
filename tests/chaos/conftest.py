"""Projects whose model is a stub server: a run starts without torch, everything else is real."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from resources.database import create_engine
from tests.chaos.stage_check import served, two_steps
from tests.chaos.stub_server import StubServer
from tests.pipeline.project import ROOT, SMALL, Project, texts
from tests.postgres import TestServer, database_text

Figures = Callable[[str], None]
MakeProject = Callable[[str, StubServer, dict[str, int]], Project]

_FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    """Takes a line with what was measured; all of them are shown when pytest ends."""
    lines = request.config.stash.setdefault(_FIGURES, [])
    return lambda line: lines.append(f"{request.node.name}: {line}")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    lines = config.stash.get(_FIGURES, [])
    if lines:
        terminalreporter.section("chaos")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture
def server() -> Iterator[StubServer]:
    with StubServer() as made:
        yield made


@pytest.fixture
def make_project(
    tmp_path_factory: pytest.TempPathFactory, weights_cache: Path
) -> Iterator[MakeProject]:
    """Database URL, server, stage sizes -> a project of two steps with as many subjects as fit."""
    made: list[Project] = []

    def make(url: str, server: StubServer, stages: dict[str, int]) -> Project:
        project = Project(tmp_path_factory.mktemp("chaos"), url, weights_cache, stages=stages)
        made.append(project)
        project.configure(models={SMALL: served(server)})
        project.write_subjects(texts(sum(stages.values())))
        project.write_workflow(two_steps())
        return project

    yield make
    for project in made:
        project.engine.dispose()


@pytest.fixture(scope="session")
def _template(postgres_server: TestServer) -> str:
    """Name of a database with the tables of the store and of Dagster, and no rows."""
    url = postgres_server.empty()
    migrate_and_make_tables(database_text(url))
    assert url.database is not None
    return url.database


@pytest.fixture
def database(postgres_server: TestServer, _template: str) -> Iterator[str]:
    """A fresh copy of it, as a URL."""
    beside = postgres_server.empty()
    name = f"chaos_{beside.database}"
    engine = create_engine(beside, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {_template}")
    yield database_text(beside.set(database=name))
    with engine.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    postgres_server.drop(beside)


def migrate_and_make_tables(url: str) -> None:
    """The store's tables and Dagster's in a database, so that no run has to make them."""
    code = "import dagster as dg; dg.DagsterInstance.get().dispose()"
    code += "; from resources.database import open_engine; open_engine()"
    environment = {"FORGE_DATABASE_URL": url, "DAGSTER_HOME": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=os.environ | environment, check=True, cwd=ROOT)
