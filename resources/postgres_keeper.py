"""The keeper: a small process of its own that runs PostgreSQL as its child while anybody uses it.

Users hold ``users.lock`` shared for life; the kernel drops it however they end. The keeper waits
for the same lock alone: when it has it, nobody is left, and it stops the server and ends. New users
meanwhile wait for their shared lock and start a fresh server.

``embedded_postgres`` runs it: ``python -m resources.postgres_keeper JSON``. Not for people.
"""

import contextlib
import ctypes
import enum
import fcntl
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import tenacity

from resources.errors import ForgeError, InfrastructureError
from resources.postgres_connection import NotThereError, connect
from resources.postgres_data import (
    FAST_SECONDS,
    IMMEDIATE_SECONDS,
    SERVER_PROGRAM,
    check_version,
    clear_leftovers,
    identity,
    initialise,
    server_environment,
)
from resources.postgres_instance import PORT, PostgresInstance
from resources.private_files import open_lock, write_atomically

SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "io_method": "sync",
    "max_parallel_workers_per_gather": "0",
    "max_parallel_maintenance_workers": "0",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] ",
    "lc_messages": "C",
}
HOST_BASED_ACCESS = "local all all scram-sha-256\n"
READY_SECONDS = 60.0
START_ATTEMPTS = 5
QUICK_END_SECONDS = 10.0
QUICK_ENDS_ALLOWED = 3
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


class Event(enum.Enum):
    NO_USERS = "the last user ended"
    TERMINATED = "asked to end"
    SERVER_ENDED = "the server ended"


@dataclass(frozen=True, slots=True)
class Order:
    """What the starting process tells the keeper on its command line."""

    folder: str
    binaries: str
    report: int
    """File descriptor to write one JSON line to once the server is ready or cannot be started."""


class Keeper:
    def __init__(self, instance: PostgresInstance, binaries: Path) -> None:
        self.instance = instance
        self.binaries = binaries
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.socket_folder = instance.make_socket_folder()
        self.server: subprocess.Popen[bytes] | None = None
        self._note()

    def start(self) -> None:
        """Bring the server up; InfrastructureError when it does not answer."""
        if not self.instance.data.exists():
            initialise(self.instance, self.binaries)
        check_version(self.instance)
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(START_ATTEMPTS),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=2),
            retry=tenacity.retry_if_exception_type(InfrastructureError),
            reraise=True,
        )
        retrying(self._start_once)
        self._note()

    def _note(self) -> None:
        """Tell where the server listens, and which processes it is."""
        state = {
            "socket_folder": str(self.socket_folder),
            "postmaster": None if self.server is None else self.server.pid,
            "keeper": os.getpid(),
        }
        write_atomically(self.instance.state_file, json.dumps(state))

    def _start_once(self) -> None:
        clear_leftovers(self.instance.data, self.socket_folder)
        write_atomically(self.instance.access_file, HOST_BASED_ACCESS)
        self.instance.give(self.instance.access_file)
        settings = SETTINGS | {
            "hba_file": str(self.instance.access_file),
            "unix_socket_directories": str(self.socket_folder),
        }
        command = [str(self.binaries / SERVER_PROGRAM), "-D", str(self.instance.data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        keeper = os.getpid()
        server = subprocess.Popen(
            command,
            cwd=self.instance.data,
            env=server_environment(),
            stdin=subprocess.DEVNULL,
            preexec_fn=lambda: end_with(keeper),
            **identity(self.instance),
        )
        self.server = server
        if not self._becomes_ready(server):
            server.kill()
            server.wait()
            reason = self.instance.log.read_text(errors="replace").strip().splitlines()[-1:]
            raise InfrastructureError(
                f"the embedded PostgreSQL could not be started ({' '.join(reason)}): "
                f"see {self.instance.log}."
            )
        threading.Thread(target=self._watch, args=(server,), daemon=True).start()

    def _becomes_ready(self, server: "subprocess.Popen[bytes]") -> bool:
        """Wait until a connection succeeds; False when the server ended or stays silent."""
        deadline = time.monotonic() + READY_SECONDS
        while server.poll() is None and time.monotonic() < deadline:
            try:
                connect(self.instance, self.socket_folder).close()
            except NotThereError:
                time.sleep(0.01)
            else:
                return True
        return False

    def _watch(self, server: "subprocess.Popen[bytes]") -> None:
        server.wait()
        self.events.put(Event.SERVER_ENDED)

    def keep(self) -> None:
        """Run until nobody uses the server; start it again when it ends by itself."""
        threading.Thread(target=self._wait_for_users, daemon=True).start()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.events.put(Event.TERMINATED))
        quick_ends = 0
        started = time.monotonic()
        while (event := self.events.get()) is Event.SERVER_ENDED:
            quick_ends = quick_ends + 1 if time.monotonic() - started < QUICK_END_SECONDS else 1
            if quick_ends > QUICK_ENDS_ALLOWED:
                break
            log(f"{event.value} unasked; starting it again")
            self.start()
            started = time.monotonic()
        log(event.value)

    def _wait_for_users(self) -> None:
        fcntl.flock(open_lock(self.instance.users_lock), fcntl.LOCK_EX)
        self.events.put(Event.NO_USERS)

    def stop(self) -> None:
        """End the server, politely first, and remove a socket folder outside the instance."""
        for step, seconds in (
            (signal.SIGINT, FAST_SECONDS),
            (signal.SIGQUIT, IMMEDIATE_SECONDS),
            (signal.SIGKILL, IMMEDIATE_SECONDS),
        ):
            if self.server is None:
                break
            self.server.send_signal(step)
            try:
                self.server.wait(seconds)
                break
            except subprocess.TimeoutExpired:
                log(f"the server did not end within {seconds:.0f} seconds of {step.name}")
        if self.socket_folder.parent != self.instance.folder:
            shutil.rmtree(self.socket_folder, ignore_errors=True)


def end_with(parent: int) -> None:
    """In the child before exec: let the kernel end the server when its keeper is killed."""
    if sys.platform == "linux":
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGINT)
        if os.getppid() != parent:
            os._exit(1)


def log(message: str) -> None:
    sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} keeper [{os.getpid()}] {message}\n")
    sys.stderr.flush()


def detach() -> None:
    """Leave the starting process: a child of init in a session of its own."""
    if os.fork() > 0:
        os._exit(0)
    os.chdir("/")


def main(argument: str) -> None:
    order = Order(**json.loads(argument))
    detach()
    os.umask(0o077)
    instance = PostgresInstance(Path(order.folder))
    try:
        # Held until this process ends.
        fcntl.flock(open_lock(instance.keeper_lock), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log("another keeper is there")
        report(order.report, {})
        return
    started = False
    try:
        keeper = Keeper(instance, Path(order.binaries))
        try:
            keeper.start()
            started = True
            report(order.report, {})
            keeper.keep()
        finally:
            keeper.stop()
    except (ForgeError, OSError) as error:
        log(str(error))
        if not started:
            kind = type(error) if isinstance(error, ForgeError) else InfrastructureError
            report(order.report, {"kind": kind.__name__, "message": str(error)})
        raise SystemExit(1) from None


def report(handle: int, content: dict[str, str]) -> None:
    """Tell the starting process, which may be gone by now."""
    with contextlib.suppress(BrokenPipeError):
        os.write(handle, json.dumps(content).encode() + b"\n")
    os.close(handle)


if __name__ == "__main__":
    main(sys.argv[1])
