"""The server of `make dev`, started and ended by a script."""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from forge_assets.config import project_root

PORT = 3000
READY_SECONDS = 120
END_SECONDS = 60
ROOT = project_root()


@contextmanager
def dev_server(environment: Mapping[str, str], log: Path) -> Iterator[str]:
    """Its address. It is ended with everything that it started."""
    port = _free_port()
    address = f"http://127.0.0.1:{port}"
    with log.open("w") as written:
        server = subprocess.Popen(
            make_dev(port),
            cwd=ROOT,
            env={**environment, "DAGSTER_HOME": str(ROOT), "DAGSTER_DISABLE_TELEMETRY": "yes"},
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _await_answer(server, f"{address}/server_info", log)
        yield address
    finally:
        _end(server)


def make_dev(port: int) -> list[str]:
    """The command of the Makefile's target, for the environment that this script runs in."""
    dagster = shutil.which("dagster", path=str(Path(sys.executable).parent)) or "dagster"
    venv = Path(dagster).parents[1]
    # Without a look at whether the environment is up to date: it is the one that works already.
    asked = ["make", "--dry-run", "-o", f"{venv}/.installed", "dev", f"VENV={venv}"]
    shown = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True)
    command = shlex.split(shown.stdout.splitlines()[-1])
    return [str(port) if word == str(PORT) else word for word in command]


def _free_port() -> int:
    """The port of `make dev`; another one where somebody else listens on it."""
    for wanted in (PORT, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", wanted))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise SystemExit("no port is free on 127.0.0.1")


def _await_answer(server: "subprocess.Popen[bytes]", address: str, log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise SystemExit(f"`make dev` did not answer on {address}:\n{log.read_text()}")


def _end(server: "subprocess.Popen[bytes]") -> None:
    server.terminate()
    try:
        server.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
