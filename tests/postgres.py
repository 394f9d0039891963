"""Throw-away databases for tests, on one embedded server for the whole test session."""

import itertools
import shutil
from pathlib import Path

import psutil
import sqlalchemy

from resources.database import create_engine, embedded_postgres
from resources.embedded_postgres import EmbeddedPostgres
from resources.postgres_instance import PostgresInstance
from resources.processes import wait_until_ended

STOP_SECONDS = 60


class TestServer:
    """The session's server. A migrated database is made once and cloned for each test (20 ms)."""

    __test__ = False

    def __init__(self, server: EmbeddedPostgres) -> None:
        self._server = server
        self._url: sqlalchemy.URL = server.open()
        self._names = (f"test_{number}" for number in itertools.count(1))
        self._template: str | None = None
        # Nothing here has to survive a power cut, and a busy disk takes seconds for each sync.
        engine = create_engine(self._url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql("ALTER SYSTEM SET fsync = off")
            connection.exec_driver_sql("SELECT pg_reload_conf()")
        engine.dispose()

    def empty(self) -> sqlalchemy.URL:
        """A database with nothing in it."""
        return self._create("template1")

    def migrated(self) -> sqlalchemy.URL:
        """A database with the schema ``forge`` and no rows."""
        if self._template is None:
            from resources.migrate import migrate

            url = self.empty()
            engine = create_engine(url)
            migrate(engine)
            engine.dispose()
            self._template = url.database
        assert self._template is not None
        return self._create(self._template)

    def _create(self, template: str) -> sqlalchemy.URL:
        name = next(self._names)
        engine = create_engine(self._url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        engine.dispose()
        return self._url.set(database=name)


def remove_instance(instance: PostgresInstance) -> None:
    """Wait until the server of ``instance`` has ended and delete its files."""
    state = instance.state()
    processes = []
    for pid in (state.get("keeper"), state.get("postmaster")):
        if isinstance(pid, int) and psutil.pid_exists(pid):
            processes.append(psutil.Process(pid))
    alive = wait_until_ended(processes, STOP_SECONDS)
    shutil.rmtree(instance.folder, ignore_errors=True)
    assert not alive, f"still running: {alive}"


def remove_session_server(server: EmbeddedPostgres) -> None:
    server.close()
    if server.instance.folder.exists():
        remove_instance(server.instance)


def session_server() -> EmbeddedPostgres:
    return embedded_postgres()


def database_text(url: sqlalchemy.URL) -> str:
    return url.render_as_string(hide_password=False)


def in_temporary_home(folder: Path) -> dict[str, str]:
    """Environment of a user whose home and data folder are ``folder``."""
    return {"HOME": str(folder), "XDG_DATA_HOME": str(folder / "data")}
