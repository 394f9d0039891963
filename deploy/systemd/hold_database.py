"""Holds the database for the other services: ``python -m deploy.systemd.hold_database``.

The embedded server lives as long as somebody uses it, as a child of a keeper that its first user
starts. Held from here, the keeper lies in this service's control group, and the end of another service,
whose processes all get SIGTERM, does not hit the server while runs hand back their work.
"""

import os
import signal
import socket
import sys
import threading
from types import FrameType

import psutil

from resources.database import database_url, embedded_postgres, uses_embedded_postgres
from resources.errors import ForgeError
from resources.processes import wait_until_ended

OTHERS_SECONDS = 60.0
"""So long is waited for other users of the server to end; then they have to start one of their own."""


def main() -> int:
    """Until SIGTERM or SIGINT; 2 and one sentence when the database cannot be used."""
    asked = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        asked.set()

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    try:
        database_url()
    except ForgeError as error:
        say(f"database: {error}")
        return error.exit_code
    tell_systemd("READY=1")
    say("database: ready")
    asked.wait()
    tell_systemd("STOPPING=1")
    return let_go() if uses_embedded_postgres() else 0


def let_go() -> int:
    """The keeper stops the server when nobody uses it any more."""
    server = embedded_postgres()
    keeper = server.instance.state().get("keeper")
    processes = []
    if isinstance(keeper, int) and psutil.pid_exists(keeper):
        processes.append(psutil.Process(keeper))
    server.close()
    if wait_until_ended(processes, OTHERS_SECONDS):
        say("database: somebody still uses it")
    return 0


def tell_systemd(state: str) -> None:
    """sd_notify(3), where systemd asked for it."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.connect(f"\0{address[1:]}" if address.startswith("@") else address)
        channel.sendall(state.encode())


def say(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")


if __name__ == "__main__":
    sys.exit(main())
