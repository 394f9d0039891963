"""Throw-away databases for tests, on one embedded server for the whole test session."""

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import psutil
import sqlalchemy

from resources.database import PROJECT_ROOT, create_engine
from resources.embedded_postgres import EmbeddedPostgres
from resources.postgres_instance import PostgresInstance
from resources.processes import wait_until_ended

STOP_SECONDS = 60
MEMORY_FOLDER = Path("/dev/shm")
MEMORY_BYTES = 2_000_000_000


class TestServer:
    """The session's server. A migrated database is made once and cloned for each test (20 ms)."""

    __test__ = False

    def __init__(self) -> None:
        self._server = EmbeddedPostgres(PostgresInstance(temporary_folder()))
        self._url: sqlalchemy.URL = self._server.open()
        self._names = (f"test_{number}" for number in itertools.count(1))
        self._templates: dict[str, str] = {}
        # Nothing here has to survive a power cut.
        self._run("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")

    def empty(self) -> sqlalchemy.URL:
        """A database with nothing in it."""
        return self._create("template1")

    def migrated(self) -> sqlalchemy.URL:
        """A database with the schema ``forge`` and no rows."""
        return self._copy_of("the store's tables", _make_store_tables)

    def ready(self) -> sqlalchemy.URL:
        """A database with the tables of the store and of Dagster, so that no run has to make them."""
        return self._copy_of("all tables", lambda url: make_tables(database_text(url)))

    def drop(self, url: sqlalchemy.URL) -> None:
        """Delete a database; connections that are still open are cut."""
        self._run(f"DROP DATABASE {url.database} WITH (FORCE)")

    def close(self) -> None:
        self._server.close()
        remove_instance(self._server.instance)

    def _copy_of(self, content: str, fill: Callable[[sqlalchemy.URL], None]) -> sqlalchemy.URL:
        if content not in self._templates:
            url = self.empty()
            fill(url)
            assert url.database is not None
            self._templates[content] = url.database
        return self._create(self._templates[content])

    def _create(self, template: str) -> sqlalchemy.URL:
        name = next(self._names)
        self._run(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self._url.set(database=name)

    def _run(self, *statements: str) -> None:
        engine = create_engine(self._url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)
        engine.dispose()


def _make_store_tables(url: sqlalchemy.URL) -> None:
    from resources.migrate import migrate

    engine = create_engine(url)
    migrate(engine)
    engine.dispose()


def make_tables(url: str) -> None:
    """The store's tables and Dagster's, made by a process as a run makes them."""
    code = "import dagster as dg; dg.DagsterInstance.get().dispose()"
    code += "; from resources.database import open_engine; open_engine()"
    environment = {"FORGE_DATABASE_URL": url, "DAGSTER_HOME": str(PROJECT_ROOT)}
    command = [sys.executable, "-c", code]
    subprocess.run(command, env=os.environ | environment, check=True, cwd=PROJECT_ROOT)


def temporary_folder() -> Path:
    """A new folder that the server's user can reach; in memory where there is room."""
    in_memory = MEMORY_FOLDER.is_dir() and shutil.disk_usage(MEMORY_FOLDER).free > MEMORY_BYTES
    return Path(tempfile.mkdtemp(prefix="forge-test-", dir=MEMORY_FOLDER if in_memory else None))


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


def database_text(url: sqlalchemy.URL) -> str:
    return url.render_as_string(hide_password=False)


def python_path(*folders: Path) -> str:
    """PYTHONPATH with ``folders`` first."""
    return os.pathsep.join(filter(None, [*map(str, folders), os.environ.get("PYTHONPATH")]))


def in_temporary_home(folder: Path) -> dict[str, str]:
    """Environment of a user whose home and data folder are ``folder``."""
    return {"HOME": str(folder), "XDG_DATA_HOME": str(folder / "data")}
