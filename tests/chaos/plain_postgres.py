"""A PostgreSQL that nobody looks after: it listens on TCP, and a test stops and starts it."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import psycopg2
import psycopg2.extensions
import sqlalchemy as sa
import tenacity

from resources.postgres_binaries import find_binaries
from resources.postgres_data import SERVER_PROGRAM, identity, initialise, server_environment
from resources.postgres_instance import DATABASE, SUPERUSER, PostgresInstance
from resources.postgres_keeper import end_with
from tests.postgres import database_text, make_tables, temporary_folder
from tests.transformers_serve import free_port

START_SECONDS = 60
ACCESS = "host all all 127.0.0.1/32 scram-sha-256\n"


class PlainPostgres:
    """A server for FORGE_DATABASE_URL, with the tables of the store and of Dagster."""

    def __init__(self, folder: Path | None = None) -> None:
        """``folder``: where its data lies, instead of a new one."""
        self._instance = PostgresInstance(folder or temporary_folder())
        self._instance.create()
        self._binaries = find_binaries(self._instance.account)
        initialise(self._instance, self._binaries)
        self._instance.access_file.write_text(ACCESS)
        self._instance.give(self._instance.access_file)
        self._port = free_port()
        self.start()
        make_tables(self.url)

    @property
    def folder(self) -> Path:
        return self._instance.folder

    @property
    def url(self) -> str:
        return database_text(
            sa.URL.create(
                "postgresql",
                username=SUPERUSER,
                password=self._instance.password(),
                host="127.0.0.1",
                port=self._port,
                database=DATABASE,
            )
        )

    def start(self) -> None:
        """Returns when it answers."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self._port),
            "unix_socket_directories": "",
            "hba_file": str(self._instance.access_file),
            "fsync": "off",
        }
        data = self._instance.data
        command = [str(self._binaries / SERVER_PROGRAM), "-D", str(data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        test = os.getpid()
        with (self._instance.folder / "server.log").open("a") as log:
            self._process = subprocess.Popen(
                command,
                cwd=data,
                env=server_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=lambda: end_with(test),
                **identity(self._instance),
            )
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_delay(START_SECONDS),
            wait=tenacity.wait_fixed(0.05),
            retry=tenacity.retry_if_exception_type(psycopg2.OperationalError),
            reraise=True,
        )
        retrying(self._connect).close()

    def _connect(self) -> psycopg2.extensions.connection:
        return psycopg2.connect(self.url)

    def stop(self) -> None:
        """At once, every session cut, if it still runs."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait()

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self._instance.folder, ignore_errors=True)
