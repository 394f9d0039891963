"""The parent's end of a process that holds an engine: it starts it, asks it, and notices its death."""

import contextlib
import itertools
import logging
import os
import queue
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator
from concurrent.futures import Future
from multiprocessing.connection import Connection
from typing import Any

from resources.gpu.engines.child_protocol import Facts, Opening

_log = logging.getLogger(__name__)
_MODULE = "resources.gpu.engines.child_main"
_TAIL_BYTES, _LINE_CHARACTERS = 4096, 300


class ChildDied(Exception):
    """The process has ended, or was ended because it gave no sign of life; the message says how."""


class ChildProcess:
    """One process. ``stream`` is used by one thread at a time, ``ask`` by any."""

    def __init__(self, opening: Opening, silence: float) -> None:
        """Start it. ``silence``: seconds without a sign of life after which it counts as dead."""
        ours, theirs = socket.socketpair()
        # A read that brings nothing for so long fails.
        limit = struct.pack("ll", int(silence), int(silence % 1 * 1e6))
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self._connection = Connection(ours.detach())
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the process is gone
        self._sending = threading.Lock()
        self._changing = threading.Lock()
        self._numbers = itertools.count(1)
        self._calls: dict[int, queue.SimpleQueue[tuple[str, Any]]] = {}
        self.end: str | None = None
        """How it ended; None while it lives."""
        self._opening = opening
        self._silence = silence
        started: Future[int] = Future()
        # The kernel ends the child with the thread that started it, not with the process: so it is
        # the thread that stays as long as the child does.
        self._thread = threading.Thread(
            target=self._run,
            args=(theirs, started),
            name=f"engine {opening.model_key}",
            daemon=True,
        )
        self._thread.start()
        self.pid = started.result()

    def opened(self) -> Facts:
        """Open the engine, before all else. Raises what its opening raised, or ChildDied."""
        facts: Facts = self.ask("open", self._opening)
        return facts

    @property
    def alive(self) -> bool:
        return self.end is None

    def ask(self, verb: str, argument: Any = None) -> Any:
        """The one answer to a question. Raises ChildDied."""
        number, answers = self._post(verb, argument)
        try:
            return self._next(answers)[1]
        finally:
            self._calls.pop(number, None)

    def stream(self, verb: str, argument: Any) -> Generator[Any, None, None]:
        """The items as they come, then the last answer. Raises ChildDied.

        When it is closed before the last one the child is told to drop the rest.
        """
        number, answers = self._post(verb, argument)
        kind = "item"
        try:
            while kind == "item":
                kind, value = self._next(answers)
                yield value
        finally:
            self._calls.pop(number, None)
            if kind == "item":
                with contextlib.suppress(ChildDied):
                    self._send(number, "drop", None)

    def close(self) -> None:
        """End it and wait until it has ended: the device's memory is free then."""
        self._process.kill()
        self._thread.join()

    def _post(self, verb: str, argument: Any) -> "tuple[int, queue.SimpleQueue[tuple[str, Any]]]":
        number = next(self._numbers)
        answers: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        with self._changing:
            if self.end is not None:
                raise ChildDied(self.end)
            self._calls[number] = answers
        self._send(number, verb, argument)
        return number, answers

    def _send(self, number: int, verb: str, argument: Any) -> None:
        try:
            with self._sending:
                self._connection.send((number, verb, argument))
        except OSError:
            # The other thread is about to say how it ended.
            self._thread.join()
            raise ChildDied(self.end) from None

    @staticmethod
    def _next(answers: "queue.SimpleQueue[tuple[str, Any]]") -> tuple[str, Any]:
        kind, value = answers.get()
        if kind in ("refused", "died"):
            raise value
        return kind, value

    # the thread's side

    def _run(self, theirs: socket.socket, started: "Future[int]") -> None:
        try:
            with theirs:
                self._process = self._start(theirs.fileno())
        except BaseException as error:
            started.set_exception(error)
            return
        started.set_result(self._process.pid)
        try:
            self._listen()
        except (EOFError, ConnectionError):
            self._bury(self._ended())
        except BlockingIOError:
            self._process.kill()
            self._ended()
            self._bury(f"it gave no sign of life for {self._silence:g} s")
        except Exception as error:
            self._process.kill()
            self._ended()
            self._bury(f"what it sent cannot be read: {error}")

    def _start(self, descriptor: int) -> "subprocess.Popen[bytes]":
        """In a session of its own: Ctrl+C in the terminal is for the parent to act on."""
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        return subprocess.Popen(
            [sys.executable, "-m", _MODULE, str(descriptor)],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            pass_fds=(descriptor,),
            env=os.environ | {"PYTHONPATH": path},
            start_new_session=True,
        )

    def _listen(self) -> None:
        """Hand out the answers until there are no more."""
        while True:
            number, kind, value = self._connection.recv()
            # An answer to a call that was given up has nobody to go to.
            answers = self._calls.get(number)
            if answers is not None:
                answers.put((kind, value))

    def _ended(self) -> str:
        """Wait for its end, end what it started, and say how it ended."""
        pid = self._process.pid
        with contextlib.suppress(ChildProcessError):
            # Not collected yet: until then its number, and so its group's, is nobody else's.
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        code = self._process.wait()
        if code < 0:
            return f"it was ended by {signal.Signals(-code).name}"
        return f"it ended with code {code}: {self._tail()}"

    def _bury(self, how: str) -> None:
        with self._changing:
            self.end = how
            calls = list(self._calls.values())
        for answers in calls:
            answers.put(("died", ChildDied(how)))
        _log.debug("process %d with an engine: %s; its last line: %s", self.pid, how, self._tail())
        with self._sending:
            self._connection.close()
        self._output.close()

    def _tail(self) -> str:
        """The last line that it wrote, shortened."""
        size = os.fstat(self._output.fileno()).st_size
        end = os.pread(self._output.fileno(), _TAIL_BYTES, max(0, size - _TAIL_BYTES))
        lines = end.decode(errors="replace").strip().splitlines() or ["nothing was written"]
        return lines[-1].strip()[:_LINE_CHARACTERS].rstrip(".")
