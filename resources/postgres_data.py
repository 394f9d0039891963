"""The data folder of the embedded server: made whole, checked, and freed of what a kill left."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from resources.errors import ConfigurationError, InfrastructureError
from resources.postgres_instance import (
    DATABASE,
    MAJOR_VERSION,
    PORT,
    SUPERUSER,
    WAY_OUT,
    PostgresInstance,
)
from resources.processes import wait_until_ended
from resources.service_account import Identity

SERVER_PROGRAM = "postgres"
FAST_SECONDS = 30.0
IMMEDIATE_SECONDS = 5.0


def initialise(instance: PostgresInstance, binaries: Path) -> None:
    """Make the data folder with our database in it, whole or not at all."""
    unfinished = instance.folder / "data.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    instance.give(unfinished)
    instance.make_password()
    command = [str(binaries / "initdb"), "--pgdata", str(unfinished), "--username", SUPERUSER]
    command += ["--encoding", "UTF8", "--locale", "C", "--no-instructions"]
    command += ["--auth", "scram-sha-256", "--pwfile", str(instance.password_file)]
    # The password is 256 random bits: stretching it protects nothing and costs at each connection.
    command += ["--set", "scram_iterations=1"]
    if sys.platform == "linux":
        # One call for the file system; on a busy disk a call for each of 1000 files takes seconds.
        command += ["--sync-method", "syncfs"]
    run_program(instance, command, unfinished)
    # Renamed, not created: a new database is 300 files more to write at the first shutdown.
    command = [str(binaries / SERVER_PROGRAM), "--single", "-D", str(unfinished)]
    command += ["-c", "exit_on_error=on", "template1"]
    run_program(instance, command, unfinished, f"ALTER DATABASE postgres RENAME TO {DATABASE}\n")
    os.rename(unfinished, instance.data)


def run_program(
    instance: PostgresInstance, command: list[str], folder: Path, text: str = ""
) -> None:
    """Run a program of PostgreSQL as the server's user; InfrastructureError when it fails."""
    ended = subprocess.run(
        command,
        cwd=folder,
        env=server_environment(),
        input=text,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        **identity(instance),
    )
    if ended.returncode != 0:
        program = os.path.basename(command[0])
        reason = ended.stderr.strip().splitlines()[-1:] or [f"exit status {ended.returncode}"]
        raise InfrastructureError(
            f"the embedded PostgreSQL could not be made in {instance.folder}: "
            f"{program}: {reason[0]}"
        )


def check_version(instance: PostgresInstance) -> None:
    found = (instance.data / "PG_VERSION").read_text().strip()
    if found != MAJOR_VERSION:
        raise ConfigurationError(
            f"{instance.data} was made by PostgreSQL {found}, and {MAJOR_VERSION} is installed: "
            f"move that folder away, {WAY_OUT}."
        )
    if not instance.password_file.exists():
        raise ConfigurationError(
            f"{instance.password_file}, the password of the embedded PostgreSQL, is gone: "
            f"restore it, move {instance.data} away, {WAY_OUT}."
        )


def clear_leftovers(data: Path, socket_folder: Path) -> None:
    """End what an earlier keeper left in ``data``, and make its pid file no obstacle.

    Only the one keeper of the instance may call this. PostgreSQL itself judges a pid file whose
    process is gone: it looks whether the shared memory named there is in use. Where the number
    belongs to a stranger meanwhile we write ours: a server takes its parent's for a stale one.
    """
    pid_file = data / "postmaster.pid"
    try:
        pid = int(pid_file.read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        pid = None
    if pid is not None:
        ours = processes_in(data)
        for process in ours:
            if process.pid == pid:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGINT)
        alive = wait_until_ended(ours, FAST_SECONDS)
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        wait_until_ended(alive, IMMEDIATE_SECONDS)
        if psutil.pid_exists(pid):
            replace_pid(pid_file, os.getpid())
    for name in (f".s.PGSQL.{PORT}.lock", f".s.PGSQL.{PORT}"):
        (socket_folder / name).unlink(missing_ok=True)


def replace_pid(pid_file: Path, pid: int) -> None:
    """Change the first line. The folder is the server's user's, so no link is followed."""
    with open(os.open(pid_file, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC), "r+") as file:
        lines = file.read().split("\n")
        file.seek(0)
        file.truncate()
        file.write("\n".join([str(pid), *lines[1:]]))


def processes_in(data: Path) -> list[psutil.Process]:
    """Server processes of that data folder: PostgreSQL works inside it."""
    found = []
    place = os.path.realpath(data)
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.name() == SERVER_PROGRAM and process.cwd() == place:
                found.append(process)
    return found


def identity(instance: PostgresInstance) -> Identity:
    account = instance.account
    return {} if account is None else account.identity()


def server_environment() -> dict[str, str]:
    """Nothing of the user's environment reaches the server, secrets least of all."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
