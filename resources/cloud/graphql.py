"""A GraphQL server over HTTP: each request sent once, its whole answer before one deadline."""

import base64
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

import httpx

from resources.cloud import graphql_errors
from resources.cloud.connections import LONGEST_PAUSE_SECONDS, PAUSE_SECONDS
from resources.cloud.errors import CloudError, Throttled, TimedOut, Unavailable
from resources.cloud.token_bucket import Bucket, empty_until, full, take

LARGEST_ANSWER_BYTES = 10_000_000
USER = "api"
"""W&B takes the key as the password of this user."""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class GraphqlServer:
    """Safe to share between threads; make it after a fork, not before.

    ``per_minute``, ``burst``: what we allow ourselves per operation. ``key`` appears in no message.
    """

    def __init__(
        self,
        name: str,
        url: str,
        key: str,
        per_minute: float,
        burst: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._url = url
        self._secrets = (key, base64.b64encode(f"{USER}:{key}".encode()).decode())
        self._client = httpx.Client(auth=(USER, key), follow_redirects=False)
        self._per_minute = per_minute
        self._burst = burst
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[str, Bucket] = {}

    def ask(self, document: str, variables: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """The answer's ``data``. CloudError when there is none within ``seconds``."""
        operation = operation_of(document)
        if seconds <= 0:
            raise TimedOut("no time left for the call")
        request = {"operationName": operation, "query": document, "variables": dict(variables)}
        self._take(operation)
        try:
            return self._data(operation, self._exchange(operation, request, seconds))
        except CloudError as error:
            error.args = (self._without_secrets(str(error)),)
            if isinstance(error, Throttled):
                self._pause(operation, error)
            raise

    def close(self) -> None:
        self._client.close()

    def _exchange(self, operation: str, request: dict[str, Any], seconds: float) -> _Answer:
        """In a thread of its own: httpx bounds each read, but neither their sum nor a look-up."""
        answers: SimpleQueue[_Answer | Exception] = SimpleQueue()
        end = time.monotonic() + seconds
        content = json.dumps(request).encode()

        def send() -> None:
            try:
                answers.put(self._send(operation, content, end))
            except Exception as error:
                answers.put(error)

        # Not an executor: at the end of the program it would wait for a thread that hangs.
        threading.Thread(target=send, name=f"ask {self._name}", daemon=True).start()
        late = f"{self._name} gave no whole answer to {operation} within {seconds:g} s"
        try:
            answer = answers.get(timeout=max(0.0, end - time.monotonic()))
        except Empty:
            raise TimedOut(late) from None
        match answer:
            case _Answer():
                return answer
            case CloudError():
                raise answer
            case httpx.TimeoutException():
                raise TimedOut(late) from None
            case httpx.HTTPError() | OSError():
                # Not as its cause: a traceback would show what the server sent, unchecked.
                said = str(answer) or type(answer).__name__
                raise Unavailable(f"{self._name} did not answer {operation}: {said}") from None
        raise answer

    def _send(self, operation: str, content: bytes, end: float) -> _Answer:
        left = max(0.001, end - time.monotonic())
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        with self._client.stream(
            "POST", self._url, content=content, headers=headers, timeout=left
        ) as response:
            parts, size = [], 0
            for part in response.iter_bytes():
                parts.append(part)
                size += len(part)
                if size > LARGEST_ANSWER_BYTES:
                    raise Unavailable(
                        f"the answer of {self._name} to {operation} is larger than "
                        f"{LARGEST_ANSWER_BYTES / 1e6:g} MB"
                    )
                if time.monotonic() > end:
                    raise httpx.ReadTimeout("the body took too long")
            return _Answer(response.status_code, response.headers, b"".join(parts))

    def _data(self, operation: str, answer: _Answer) -> dict[str, Any]:
        who = f"{self._name}, asked for {operation},"
        failed = graphql_errors.of_status(who, answer.status, answer.headers, answer.body)
        read: Any = None
        try:
            read = json.loads(answer.body)
        except (ValueError, RecursionError):
            if failed is None:
                raise Unavailable(f"{who} answered with something that is no JSON") from None
        told = read.get("errors") if isinstance(read, dict) else None
        # A wrong request comes as 400 with GraphQL's own words; all other statuses are plain.
        if told and (failed is None or answer.status in (400, 422)):
            raise graphql_errors.of_errors(who, told, read.get("data"))
        if failed is not None:
            raise failed
        data = read.get("data") if isinstance(read, dict) else None
        if not isinstance(data, dict):
            raise Unavailable(f"{who} answered without data")
        return data

    def _take(self, operation: str) -> None:
        with self._lock:
            now = self._clock()
            bucket = self._buckets.get(operation) or full(self._per_minute, self._burst, now)
            wait, self._buckets[operation] = take(bucket, now)
        if wait:
            raise Throttled(
                f"{self._name} is not asked for {operation} again for {wait:.1f} s: our own limit, "
                "or the API asked for a pause",
                retry_after=wait,
            )

    def _pause(self, operation: str, told: CloudError) -> None:
        pause = PAUSE_SECONDS if told.retry_after is None else told.retry_after
        until = self._clock() + min(pause, LONGEST_PAUSE_SECONDS)
        with self._lock:
            self._buckets[operation] = empty_until(self._buckets[operation], until)

    def _without_secrets(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def operation_of(document: str) -> str:
    """Its name. ValueError for a document without one."""
    found = re.match(r"\s*(?:query|mutation)\s+(\w+)", document)
    if found is None:
        raise ValueError("a GraphQL document without a name")
    return found[1]
