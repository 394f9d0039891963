"""Projects for the tests of the whole path: real processes, real PostgreSQL, the real small model."""

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from resources.database import create_engine
from tests.pipeline.project import ROOT, Project, pair, texts
from tests.postgres import TestServer, database_text

MakeProject = Callable[[], Project]


@pytest.fixture(scope="session")
def new_database(postgres_server: TestServer) -> Callable[[], str]:
    """Gives fresh databases that already hold the store's tables and Dagster's."""
    template, beside = postgres_server.migrated(), postgres_server.empty()
    make_tables = "import dagster as dg; dg.DagsterInstance.get().dispose()"
    environment = {"FORGE_DATABASE_URL": database_text(template), "DAGSTER_HOME": str(ROOT)}
    command = [sys.executable, "-c", make_tables]
    subprocess.run(command, env=os.environ | environment, check=True, cwd=ROOT)
    numbers = itertools.count(1)

    def clone() -> str:
        name = f"pipeline_{next(numbers)}"
        engine = create_engine(beside, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {template.database}")
        return database_text(template.set(database=name))

    return clone


@pytest.fixture(scope="session")
def _make_project(
    new_database: Callable[[], str],
    weights_cache: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> MakeProject:
    def make() -> Project:
        made = Project(tmp_path_factory.mktemp("project"), new_database(), weights_cache)
        made.configure()
        made.write_subjects(texts(7))
        made.write_workflow(pair())
        return made

    return make


@pytest.fixture
def project(_make_project: MakeProject) -> Iterator[Project]:
    """Two stages of 3 and 4 subjects, two steps on two models; nothing has run yet."""
    made = _make_project()
    yield made
    made.engine.dispose()


@pytest.fixture(scope="module")
def module_project(_make_project: MakeProject) -> Iterator[Project]:
    """The same, shared by the tests of one file."""
    made = _make_project()
    yield made
    made.engine.dispose()
