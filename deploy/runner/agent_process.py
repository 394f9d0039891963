"""The agent as a child process, whose lines and end come through a queue."""

import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue

_LONGEST_LINE = 65536
_LAST_LINES_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Ended:
    """``status``: of the agent itself; negative for a signal, as subprocess tells it."""

    status: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Somebody asked the runner to end."""


Inbox = SimpleQueue[str | Ended | Stop]


class AgentProcess:
    """Started at once. Its lines come into ``inbox``, then its end. OSError when it cannot start."""

    def __init__(self, command: Sequence[str], inbox: Inbox) -> None:
        self._inbox = inbox
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            # One pipe keeps the order of the two.
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            # What it prints must come when it is printed.
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            # Its helpers end with it, and a terminal's Ctrl+C comes to the runner alone.
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        threading.Thread(target=self._wait, daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        """Ask it to end."""
        self._process.terminate()

    def kill(self) -> None:
        self._signal_group(signal.SIGKILL)

    def last_lines(self) -> list[str]:
        """What it printed before its end and nobody has read yet. Its helpers are ended."""
        # One that outlives it would hold the pipe open.
        self._signal_group(signal.SIGKILL)
        self._reader.join(_LAST_LINES_SECONDS)
        lines = []
        with suppress(Empty):
            while True:
                item = self._inbox.get_nowait()
                if isinstance(item, str):
                    lines.append(item)
        return lines

    def _read(self) -> None:
        assert self._process.stdout
        while piece := self._process.stdout.readline(_LONGEST_LINE):
            self._inbox.put(piece)

    def _wait(self) -> None:
        self._inbox.put(Ended(self._process.wait()))

    def _signal_group(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
