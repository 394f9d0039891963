"""A model server for chaos: it takes thousands of requests, counts answers, and answers badly on demand."""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, Self

from tests.chat_server import Reply, completion

Choose = Callable[[str, int], Reply]
"""Prompt and how often it was asked before -> the answer."""

_MODELS = json.dumps({"data": [{"id": "echo"}]}).encode()
_START_SECONDS = 10


class StubServer:
    """Speaks the chat protocol on one thread. ``seconds`` of an answer may change while it works."""

    def __init__(
        self, choose: Choose = lambda prompt, times: Reply(), seconds: float = 0.0
    ) -> None:
        self.seconds = seconds
        """What every answer takes on top of its own."""
        self.asked: Counter[str] = Counter()
        """Requests by prompt."""
        self.answered: Counter[str] = Counter()
        """Whole completions by prompt that were written to a client that was still there."""
        self.tokens = 0
        """Of these answers."""
        self.now = 0
        self.most_at_once = 0
        self._choose = choose
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))
        self._thread.start()
        assert self._started.wait(_START_SECONDS)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        self._talks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0, backlog=1024)
        self._port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._closing.wait()
        server.close()
        for talk in list(self._talks):
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, for as long as both sides want it."""
        task = asyncio.current_task()
        assert task is not None
        self._talks.add(task)
        try:
            while await self._exchange(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client has left, or the server closes
        finally:
            self._talks.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer; whether the connection stays."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        if head.startswith("get"):
            writer.write(_http(200, _MODELS))
            await writer.drain()
            return True
        length = next(line for line in head.split("\r\n") if line.startswith("content-length:"))
        body = json.loads(await reader.readexactly(int(length.partition(":")[2])))
        prompt = str(body["messages"][-1]["content"])
        reply = self._choose(prompt, self.asked[prompt])
        self.asked[prompt] += 1
        self.now += 1
        self.most_at_once = max(self.most_at_once, self.now)
        try:
            await (
                self._closing.wait() if reply.hangs else asyncio.sleep(self.seconds + reply.seconds)
            )
        finally:
            self.now -= 1
        if reader.at_eof() or reader.exception() or writer.is_closing():
            return False
        content, tokens = self._content(reply, prompt)
        writer.write(_http(reply.status, content, reply.missing, dict(reply.headers)))
        await writer.drain()
        if tokens and not reply.missing:
            self.answered[prompt] += 1
            self.tokens += tokens
        return not reply.missing

    def _content(self, reply: Reply, prompt: str) -> tuple[bytes, int]:
        """The body, and the tokens of the completion when it is one."""
        if isinstance(reply.body, bytes):
            return reply.body, 0
        said: dict[str, Any] = (
            completion(f"answer to {prompt}") if reply.body is None else reply.body
        )
        tokens = said.get("usage", {}).get("completion_tokens", 0) if reply.status == 200 else 0
        return json.dumps(said).encode(), tokens


def _http(
    status: int, content: bytes, missing: int = 0, headers: dict[str, str] | None = None
) -> bytes:
    lines = [f"HTTP/1.1 {status} Stub", f"Content-Length: {len(content) + missing}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + content
