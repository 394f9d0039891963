"""A GraphQL server over HTTP: each request sent once, its whole answer before one deadline."""

import base64
import json
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from resources.cloud import graphql_errors, rest
from resources.cloud.errors import CloudError, TimedOut, Unavailable
from resources.cloud.token_bucket import Limiter

LARGEST_ANSWER_BYTES = 10_000_000
_HEADERS = {"Content-Type": "application/json", "Accept": "application/json"}
USER = "api"
"""W&B takes the key as the password of this user."""


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
        self._limiter = Limiter(per_minute, burst, clock)

    def ask(self, document: str, variables: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """The answer's ``data``. CloudError when there is none within ``seconds``."""
        operation = operation_of(document)
        if seconds <= 0:
            raise TimedOut("no time left for the call")
        request = {"operationName": operation, "query": document, "variables": dict(variables)}
        content = json.dumps(request).encode()
        who = f"{self._name}, asked for {operation},"

        def send(end: float) -> rest.Answer:
            return rest.post(
                self._client, self._url, _HEADERS, content, end, who, LARGEST_ANSWER_BYTES
            )

        with self._limiter.request(operation, f"{self._name} is not asked for {operation} again"):
            try:
                return _data(rest.within(seconds, who, send))
            except CloudError as error:
                error.args = (self._without_secrets(str(error)),)
                raise

    def _without_secrets(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def _data(answer: rest.Answer) -> dict[str, Any]:
    failed = answer.failure()
    read: Any = None
    try:
        read = json.loads(answer.body)
    except (ValueError, RecursionError):
        if failed is None:
            said = f"{answer.who} answered with something that is no JSON"
            raise Unavailable(said) from None
    told = read.get("errors") if isinstance(read, dict) else None
    # A wrong request comes as 400 with GraphQL's own words; all other statuses are plain.
    if told and (failed is None or answer.status in (400, 422)):
        raise graphql_errors.of_errors(answer.who, told, read.get("data"))
    if failed is not None:
        raise failed
    data = read.get("data") if isinstance(read, dict) else None
    if not isinstance(data, dict):
        raise Unavailable(f"{answer.who} answered without data")
    return data


def operation_of(document: str) -> str:
    """Its name. ValueError for a document without one."""
    found = re.match(r"\s*(?:query|mutation)\s+(\w+)", document)
    if found is None:
        raise ValueError("a GraphQL document without a name")
    return found[1]
