"""The process that holds an engine: ``python -m resources.gpu.engines.child_main DESCRIPTOR``.

It ends with its parent, however the parent ends, and at any exception: what an engine computes after
one is not to be trusted, and the parent starts another process and gives it the work that is left.
"""

import contextlib
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from resources.errors import ForgeError
from resources.gpu.engines.base import Engine
from resources.gpu.engines.child_protocol import BEAT_SECONDS, Facts, Opening

_PR_SET_PDEATHSIG = 1


class Child:
    """The engine and its three threads: the main one works, one listens, one gives signs of life."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._work: queue.SimpleQueue[tuple[int, str, Any]] = queue.SimpleQueue()
        self._engine: Engine | None = None
        self._dropped = 0
        """Calls up to this number are wanted no more."""
        self._working = False
        self._last_step: tuple[object, float] = (None, 0.0)
        """The engine's count of steps, and since when it is that."""

    def serve(self) -> None:
        """Works until the parent is gone; returns only with an exception."""
        for thread in (self._listen, self._beat):
            threading.Thread(target=ending(thread), name=thread.__name__, daemon=True).start()
        self._open(*self._work.get())
        while True:
            self._do(*self._work.get())

    def _open(self, number: int, verb: str, opening: Opening) -> None:
        try:
            self._engine = opening.open()
        except ForgeError as error:
            self._send(number, "refused", error)
        else:
            self._send(number, "end", self._facts(self._engine))

    def _do(self, number: int, verb: str, argument: Any) -> None:
        assert self._engine is not None
        if verb == "generate":
            self._working = True
            completions = self._engine.generate(argument)
            for completion in completions:
                if number <= self._dropped:
                    break
                self._send(number, "item", completion)
            # Not left to the garbage collector: an engine gives up its unfinished rows here.
            getattr(completions, "close", lambda: None)()
            self._working = False
            self._send(number, "end", self._facts(self._engine))
        elif verb == "check":
            self._send(number, "end", self._engine.check(argument))
        else:
            self._send(number, "end", getattr(self._engine, verb)())

    def _facts(self, engine: Engine) -> Facts:
        return Facts(engine.max_batch, engine.dtype, engine.memory_bytes, engine.workspace_seen)

    def _listen(self) -> None:
        while True:
            number, verb, argument = self._connection.recv()
            if verb == "drop":
                self._dropped = number
            elif verb == "check" and self._engine is not None:
                # At once: the main thread may be at work.
                self._send(number, "end", self._engine.check(argument))
            else:
                self._work.put((number, verb, argument))

    def _beat(self) -> None:
        while True:
            self._send(0, "beat", None)
            if self._stuck(time.monotonic()):
                raise TimeoutError("the engine's step does not end")
            time.sleep(BEAT_SECONDS)

    def _stuck(self, now: float) -> bool:
        """Whether an engine that counts its ``steps`` has been in one for over ``longest_step`` s.

        A thread that waits for a kernel lets this one go on, so that signs of life say nothing of it.
        """
        steps = getattr(self._engine, "steps", None)
        if not self._working or steps != self._last_step[0]:
            self._last_step = (steps, now)
        longest = getattr(self._engine, "longest_step", None)
        return longest is not None and now - self._last_step[1] > longest

    def _send(self, number: int, kind: str, value: Any) -> None:
        with self._sending:
            self._connection.send((number, kind, value))


def ending(work: Callable[[], None]) -> Callable[[], None]:
    """``work``, after which the process ends, whatever other threads do."""

    def run() -> None:
        try:
            work()
        except (EOFError, ConnectionError):
            os._exit(0)  # the parent is gone
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        os._exit(1)

    return run


def end_with_parent() -> None:
    """Let the kernel end this process with its parent, even while it is stopped (Linux).

    Elsewhere, and before this call, the end of the pipe tells the same.
    """
    import ctypes

    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    end_with_parent()
    descriptor = int(sys.argv[1])
    os.set_inheritable(descriptor, False)
    ending(Child(Connection(descriptor)).serve)()


if __name__ == "__main__":
    main()
