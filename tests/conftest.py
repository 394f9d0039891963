"""Fixtures for every room: real PostgreSQL, never the developer's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy

from resources.database import create_engine
from tests.postgres import TestServer, database_text, remove_session_server, session_server


@pytest.fixture(scope="session", autouse=True)
def private_data_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give this session, and the programs it starts, an embedded server of its own."""
    folder = tmp_path_factory.mktemp("data-home")
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_DATA_HOME", str(folder))
    patch.delenv("FORGE_DATABASE_URL", raising=False)
    try:
        yield folder
    finally:
        remove_session_server(session_server())
        patch.undo()


@pytest.fixture(scope="session")
def postgres_server(private_data_folder: Path) -> TestServer:
    return TestServer(session_server())


@pytest.fixture
def postgres_url(postgres_server: TestServer) -> str:
    """A fresh database with the migrated schema ``forge``, as a SQLAlchemy URL."""
    return database_text(postgres_server.migrated())


@pytest.fixture(scope="module")
def module_postgres_url(postgres_server: TestServer) -> str:
    """The same, shared by the tests of one file."""
    return database_text(postgres_server.migrated())


@pytest.fixture
def empty_postgres_url(postgres_server: TestServer) -> str:
    """A fresh database without the schema."""
    return database_text(postgres_server.empty())


@pytest.fixture
def postgres_engine(postgres_url: str) -> Iterator[sqlalchemy.Engine]:
    """An engine on a fresh, migrated database."""
    engine = create_engine(postgres_url)
    yield engine
    engine.dispose()


@pytest.fixture
def forge_database(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same database as FORGE_DATABASE_URL, for this process and the programs it starts."""
    monkeypatch.setenv("FORGE_DATABASE_URL", postgres_url)
    return postgres_url
