"""The embedded PostgreSQL as its users see it: found or started, and kept while we live.

One server for each (checkout, user). No list of users is kept anywhere: each holds a shared kernel
lock for life, and the keeper (``postgres_keeper``) stops the server once nobody holds one.
"""

import fcntl
import json
import os
import select
import subprocess
import sys
import threading
from pathlib import Path

import sqlalchemy
import tenacity

from resources.errors import ConfigurationError, InfrastructureError
from resources.postgres_binaries import find_binaries
from resources.postgres_connection import NotThereError, ServerFullError, connect
from resources.postgres_instance import DATABASE, PORT, SUPERUSER, PostgresInstance
from resources.private_files import is_locked, locked, open_lock

START_SECONDS = 120.0
LOG_BYTES = 1_000_000


class EmbeddedPostgres:
    """One process' hold on the server. The server lives as long as any hold does."""

    def __init__(self, instance: PostgresInstance) -> None:
        self.instance = instance
        self._hold: int | None = None
        self._thread_lock = threading.Lock()

    def open(self) -> sqlalchemy.URL:
        """Take hold of the server, started if need be, and return where it listens."""
        with self._thread_lock:
            if self._hold is None:
                self.instance.create()
                self._hold = open_lock(self.instance.users_lock)
                # Waits only while a keeper is stopping the server of earlier users.
                fcntl.flock(self._hold, fcntl.LOCK_SH)
        try:
            self.ensure_running()
        except BaseException:
            self.close()
            raise
        return self.url()

    def url(self) -> sqlalchemy.URL:
        folder = self.instance.socket_folder()
        return sqlalchemy.URL.create(
            "postgresql+psycopg2",
            username=SUPERUSER,
            password=self.instance.password(),
            database=DATABASE,
            query={"host": str(folder), "port": str(PORT)},
        )

    def close(self) -> None:
        """Let go. A forked child that shares the hold keeps it until it ends."""
        with self._thread_lock:
            if self._hold is not None:
                os.close(self._hold)
                self._hold = None

    def ensure_running(self) -> None:
        """Return once a connection succeeded; start a keeper where none lives."""
        if self._answers():
            return
        with locked(self.instance.start_lock):
            retrying = tenacity.Retrying(
                stop=tenacity.stop_after_delay(START_SECONDS),
                wait=tenacity.wait_random_exponential(multiplier=0.02, max=0.5),
                retry=tenacity.retry_if_result(lambda answers: not answers),
            )
            try:
                retrying(self._start_or_wait)
            except tenacity.RetryError:
                raise InfrastructureError(
                    f"the embedded PostgreSQL did not answer for {START_SECONDS:.0f} seconds: "
                    f"see {self.instance.log}."
                ) from None

    def _start_or_wait(self) -> bool:
        if self._answers():
            return True
        if not is_locked(self.instance.keeper_lock):
            start_keeper(self.instance)
        return self._answers()

    def _answers(self) -> bool:
        folder = self.instance.socket_folder()
        if folder is None:
            return False
        try:
            connect(self.instance, Path(folder)).close()
        except NotThereError:
            return False
        except ServerFullError:
            return True
        return True


def start_keeper(instance: PostgresInstance) -> None:
    """Start a keeper and wait until its server answers."""
    binaries = find_binaries(instance.account)
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        _launch(instance, binaries, writing)
    finally:
        os.close(writing)
    try:
        answer = _read_report(reading)
    finally:
        os.close(reading)
    if not answer:
        raise InfrastructureError(
            f"the process that keeps the embedded PostgreSQL ended early: see {instance.log}."
        )
    content = json.loads(answer)
    if content.get("kind") == ConfigurationError.__name__:
        raise ConfigurationError(content["message"])
    if content:
        raise InfrastructureError(content["message"])


def _launch(instance: PostgresInstance, binaries: Path, report: int) -> None:
    order = {"folder": str(instance.folder), "binaries": str(binaries), "report": report}
    root = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    log = os.open(instance.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(log).st_size > LOG_BYTES:
            os.ftruncate(log, 0)
        started = subprocess.run(
            [sys.executable, "-m", "resources.postgres_keeper", json.dumps(order)],
            cwd=instance.folder,
            env=os.environ | {"PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(report,),
            start_new_session=True,
            check=False,
        )
    finally:
        os.close(log)
    if started.returncode != 0:
        raise InfrastructureError(
            f"the process that keeps the embedded PostgreSQL did not start: see {instance.log}."
        )


def _read_report(reading: int) -> str:
    """The keeper's line; empty when it ended, or was silent for START_SECONDS."""
    content = b""
    while not content.endswith(b"\n"):
        ready, _, _ = select.select([reading], [], [], START_SECONDS)
        chunk = os.read(reading, 4096) if ready else b""
        if not chunk:
            return ""
        content += chunk
    return content.decode()
