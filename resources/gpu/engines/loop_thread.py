"""An asyncio loop on a thread of its own: many waiting requests, one thread, and all of them can be stopped."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """Runs coroutines for callers that are not asynchronous. Ends with ``close`` or with the process."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Its result, waited for."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def start(self, coroutine: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Start it as a task that ``stop`` can end; returns at once."""

        async def create() -> "asyncio.Task[T]":
            return asyncio.create_task(coroutine)

        return self.run(create())

    def stop(self, task: "asyncio.Task[Any]") -> None:
        """Cancel the task unless it has ended, and return once it has."""

        async def end() -> None:
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task

        self.run(end())

    def close(self) -> None:
        """End the thread. Nothing may be running."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
