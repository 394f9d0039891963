"""The engine whose model a server holds: any OpenAI-compatible one, reached by its URL."""

import asyncio
import itertools
import logging
import random
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import Any

import httpx

from resources.gpu.dtype_probe import DtypeChoice
from resources.gpu.engines.base import Completion, EngineError, GenerationRequest
from resources.gpu.engines.concurrency_limit import ConcurrencyLimit
from resources.gpu.engines.failures import failed
from resources.gpu.engines.loop_thread import LoopThread
from resources.gpu.engines.openai_chat import Answer, Fault, chat_body, read_answer, read_fault
from resources.gpu.engines.openai_server import OpenAIServer, Patience
from resources.gpu.grammar import grammar_key
from resources.gpu.model_config import ModelConfig
from resources.interaction import ErrorClass

_log = logging.getLogger(__name__)
_AT_ONCE = 64
_CONNECT_SECONDS = 10.0
_PASSING = frozenset({ErrorClass.RATE_LIMIT, ErrorClass.CONNECTION})

Put = Callable[[Completion | None], None]


class OpenAIHttpEngine:
    """One model at a server. Any thread may call; together they keep to what the server takes."""

    def __init__(
        self, config: ModelConfig, model_key: str = "?", patience: Patience | None = None
    ) -> None:
        """Ask the server for the model. ConfigurationError when it refuses, InfrastructureError when
        it stays away."""
        self.max_batch = config.max_batch or _AT_ONCE
        self._patience = patience or Patience()
        self._server = OpenAIServer(config, model_key)
        self._timeout = config.timeout
        self._limit = ConcurrencyLimit(self.max_batch)
        self._name = f"{model_key}-{uuid.uuid4().hex[:8]}"
        self._volleys = itertools.count(1)
        self._grammars_refused: set[str] = set()
        self._running: set[asyncio.Task[None]] = set()
        """Requests of all callers; touched in the loop alone, like the limit."""
        self._not_before = 0.0
        """Until then (time.monotonic) the server wants no requests."""
        _log.info("%s", self._server.wait_for_model(self._patience))
        self._client = httpx.AsyncClient(
            headers=self._server.headers,
            timeout=httpx.Timeout(self._timeout, connect=min(_CONNECT_SECONDS, self._timeout)),
            limits=httpx.Limits(
                max_connections=self.max_batch, max_keepalive_connections=self.max_batch
            ),
        )
        self._loop = LoopThread(f"openai_http {model_key}")

    @property
    def dtype(self) -> DtypeChoice:
        return DtypeChoice("server", "the server's")

    @property
    def memory_bytes(self) -> int:
        """None of this machine's."""
        return 0

    @property
    def workspace_seen(self) -> int | None:
        """Nothing of this machine's is taken."""
        return None

    def check(self, request: GenerationRequest) -> EngineError | None:
        """Why the request cannot run, or None. Only the server can count its tokens."""
        if not request.prompt.strip():
            return EngineError(ErrorClass.TEMPLATE, "the prompt is empty")
        if request.max_new_tokens < 1:
            return EngineError(ErrorClass.ENGINE, f"max_new_tokens is {request.max_new_tokens}")
        return None

    def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[Completion]:
        """Yield one completion per request, each as it ends; see ``Engine``.

        A caller that leaves early ends what is under way at once; the server sees the connections
        close. InfrastructureError when the server itself is gone: that is no row's fault.
        """
        rows = []
        for request in requests:
            error = self.check(request)
            if error is None:
                rows.append(request)
            else:
                yield failed(request, error)
        ended: SimpleQueue[Completion | None] = SimpleQueue()
        work = self._loop.start(self._answer_all(rows, ended.put))
        try:
            while (completion := ended.get()) is not None:
                if completion.error and completion.error.error_class is ErrorClass.CONNECTION:
                    self._server.wait_for_model(self._patience)
                yield completion
        finally:
            self._loop.stop(work)
        work.result()

    async def _answer_all(self, rows: Sequence[GenerationRequest], put: Put) -> None:
        """Puts every row's completion, then None."""
        waiting = deque(rows)
        running = self._running
        try:
            async with asyncio.TaskGroup() as tasks:
                if not running:
                    self._limit.begin()
                while waiting:
                    # A volley is what goes out at one limit: the unit in which a run is cut short.
                    volley = f"{self._name}-{next(self._volleys)}"
                    for _ in range(min(len(waiting), self._limit.value)):
                        while len(running) >= self._limit.value:
                            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                        row = _Row(waiting.popleft(), volley, self._limit.value, bool(waiting))
                        task = tasks.create_task(self._complete(row, put))
                        running.add(task)
                        task.add_done_callback(running.discard)
        finally:
            put(None)

    async def _complete(self, row: "_Row", put: Put) -> None:
        began = time.monotonic()
        try:
            answer = await self._answer(row)
        except Fault as fault:
            error = fault.error
        except Exception as bug:  # a request must not take the others with it
            error = EngineError(ErrorClass.ENGINE, f"{type(bug).__name__}: {bug}"[:500])
        else:
            if row.counts:
                self._limit.finished(max(1, answer.prompt_tokens + answer.output_tokens))
            put(self._completion(row, answer, time.monotonic() - began))
            return
        # Here and not before: only what has been decoded shows every way to write a key.
        error = replace(error, message=self._server.redacted(error.message))
        seconds, provenance = time.monotonic() - began, self._provenance(row, None)
        put(failed(row.request, error, seconds=seconds, provenance=provenance))

    async def _answer(self, row: "_Row") -> Answer:
        """Ask until there is an answer. Fault when there is none after the bounded tries."""
        row.constrained = row.grammar is not None and row.grammar not in self._grammars_refused
        tries = 0
        while True:
            try:
                answer = await self._ask(row)
                break
            except Fault as fault:
                if fault.overload:
                    self._limit.overloaded(row.sent_at)
                if (
                    row.constrained
                    and fault.refused
                    and fault.error.error_class is ErrorClass.ENGINE
                ):
                    # Perhaps because of the grammar: the answer without it will tell.
                    row.constrained = False
                    continue
                tries += 1
                if tries >= self._tries(fault):
                    raise
                await self._pause(tries, fault)
        if row.grammar is not None and not row.constrained:
            self._remember_refused(row.grammar)
        return answer

    def _remember_refused(self, grammar: str) -> None:
        if grammar not in self._grammars_refused:
            self._grammars_refused.add(grammar)
            _log.warning("%s does not constrain decoding to %s", self._server.host, grammar[:200])

    async def _ask(self, row: "_Row") -> Answer:
        """One request. Fault for whatever is not an answer."""
        body = chat_body(row.request, self._server.model, row.constrained)
        await asyncio.sleep(self._not_before - time.monotonic())
        row.sent_at = time.monotonic()
        async with self._faults(), asyncio.timeout(self._timeout):
            place = f"{self._server.url}/chat/completions"
            async with self._client.stream("POST", place, json=body) as reply:
                content = await self._server.content(reply)
        if reply.status_code == 200:
            return read_answer(content, row.request)
        said = content.decode(errors="replace")
        raise read_fault(
            reply.status_code, said, reply.headers.get("Retry-After"), datetime.now(UTC)
        )

    @asynccontextmanager
    async def _faults(self) -> AsyncIterator[None]:
        """What goes wrong on the way, as Fault."""
        try:
            yield
        except (TimeoutError, httpx.TimeoutException) as error:
            if isinstance(error, httpx.ConnectTimeout):
                message = f"{self._server.host} cannot be reached in time"
                raise Fault(ErrorClass.CONNECTION, message) from None
            message = f"no answer from {self._server.host} in {self._timeout:g} s"
            raise Fault(ErrorClass.TIMEOUT, message) from None
        except httpx.NetworkError as error:
            message = f"{self._server.host}: {error or type(error).__name__}"
            raise Fault(ErrorClass.CONNECTION, message) from None
        except httpx.HTTPError as error:  # half a body, broken HTTP
            message = f"{self._server.host}: {error or type(error).__name__}"
            raise Fault(ErrorClass.ENGINE, message[:500]) from None

    def _tries(self, fault: Fault) -> int:
        if fault.refused:
            return 1
        passing = fault.error.error_class in _PASSING
        return self._patience.passing_tries if passing else self._patience.other_tries

    async def _pause(self, tries: int, fault: Fault) -> None:
        """What the server asks for, and then holds for every row, else longer with every try."""
        longest = self._patience.longest_wait
        if fault.retry_after is not None:
            until = time.monotonic() + min(longest, fault.retry_after)
            self._not_before = max(self._not_before, until)
        wait = min(longest, self._patience.first_wait * 2 ** (tries - 1))
        await asyncio.sleep(wait * random.uniform(0.5, 1.5))

    def _completion(self, row: "_Row", answer: Answer, seconds: float) -> Completion:
        return Completion(
            request_id=row.request.request_id,
            text=self._server.redacted(answer.text),
            finish_reason=answer.finish_reason,
            prompt_tokens=answer.prompt_tokens,
            output_tokens=answer.output_tokens,
            seconds=seconds,
            provenance=self._provenance(row, answer.fingerprint),
        )

    def _provenance(self, row: "_Row", fingerprint: str | None) -> dict[str, Any]:
        """What was sent, and the server's own mark where it gives one."""
        known = {"system_fingerprint": self._server.redacted(fingerprint)} if fingerprint else {}
        return known | {
            "engine": "openai_http",
            "attention": "server",
            "dtype": "server",
            "device": self._server.host,
            "model": self._server.model,
            "batch_id": row.volley,
            "batch_size": row.at_once,
            "seed": row.request.seed,
            "temperature": row.request.temperature,
            "grammar": f"{row.grammar.partition(':')[0]}, asked for"
            if row.grammar and row.constrained
            else "none",
        }

    def trim(self) -> None:
        """Nothing here to free."""

    def park(self) -> bool:
        """Nothing here to move."""
        return False

    def resume(self) -> None:
        """Nothing was moved."""

    def close(self) -> None:
        """Close the connections and end the thread."""
        if not self._client.is_closed:
            self._loop.run(self._client.aclose())
        self._loop.close()


@dataclass
class _Row:
    """One request on its way."""

    request: GenerationRequest
    volley: str
    at_once: int
    """The limit when it was sent."""
    counts: bool
    """More were waiting behind it: its time says something of the limit."""
    constrained: bool = False
    """The server was asked to keep to the grammar."""
    sent_at: float = 0.0
    """time.monotonic of the last try."""

    @property
    def grammar(self) -> str | None:
        """A text that names the request's grammar; None for free text."""
        return grammar_key(self.request)
