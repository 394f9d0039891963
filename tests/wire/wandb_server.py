"""A fake W&B: a real HTTP server on a local socket, and real GraphQL over W&B's own schema."""

import base64
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from graphql import graphql_sync

from tests.wire.http_faults import HttpFault, HttpFaults
from tests.wire.wandb_queues import LAUNCH_PROJECT, FakeQueues
from tests.wire.wandb_runs import FakeWandbRuns
from tests.wire.wandb_schema import SCHEMA

PATIENCE_SECONDS = 60
DRIP_SECONDS = 0.02
KEY = "0123456789abcdef" * 2 + "01234567"


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    operation: str
    document: str
    variables: Mapping[str, Any]
    at: float


class FakeWandb:
    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.faults = HttpFaults()
        self.asked: list[Asked] = []
        self.queues = FakeQueues(clock)
        self.runs = FakeWandbRuns(clock)
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def environment(self) -> dict[str, str]:
        address = f"http://127.0.0.1:{self._server.server_address[1]}"
        return {"WANDB_BASE_URL": address, "WANDB_API_KEY": KEY}

    def named(self, operation: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.operation == operation]

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def answer(self, asked: Asked) -> dict[str, Any]:
        """What GraphQL makes of it: a field that the schema does not know is refused."""
        with self._lock:
            result = graphql_sync(
                SCHEMA,
                asked.document,
                self._root(),
                variable_values=dict(asked.variables),
                operation_name=asked.operation,
            )
        return dict(result.formatted)

    def wait(self, fault: HttpFault) -> None:
        self._closing.wait(PATIENCE_SECONDS if fault.hangs else fault.seconds)

    @property
    def is_closing(self) -> bool:
        return self._closing.is_set()

    def _root(self) -> dict[str, Any]:
        return {
            "project": lambda _, name, entityName: self._project(entityName, name),  # noqa: N803
            "entity": lambda _, name: {
                "id": name,
                "name": name,
                "defaultResourceConfig": lambda _, id: self.queues.resource(id),
            },
            "pushToRunQueueByName": lambda _, input: self.queues.push_by_name(input),
            "pushToRunQueue": lambda _, input: self.queues.push_by_id(input),
            "deleteFromRunQueue": lambda _, input: self.queues.delete(input),
        }

    def _project(self, entity: str, name: str) -> dict[str, Any] | None:
        launches = name == LAUNCH_PROJECT and self.queues.knows(entity)
        if not launches and not self.runs.knows(entity, name):
            return None
        empty: dict[str, Any] = {"runQueues": [], "launchAgents": []}
        queues = self.queues.project(entity) if launches else empty
        return {"id": name, "name": name, **queues, **self.runs.project(entity, name)}


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    """Of connections at once: the default refuses some when there are more than five."""


def _handler(fake: FakeWandb) -> type[BaseHTTPRequestHandler]:
    expected = "Basic " + base64.b64encode(f"api:{KEY}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if fake.is_closing:
                self.close_connection = True
                return
            named = re.search(r"(?:query|mutation)\s+(\w+)", request["query"])
            operation = request.get("operationName") or (named[1] if named else "")
            variables = request.get("variables") or {}
            asked = Asked(operation, request["query"], variables, time.monotonic())
            fake.asked.append(asked)
            try:
                self._reply(asked)
            except OSError:  # the client has left
                self.close_connection = True

        def _reply(self, asked: Asked) -> None:
            if self.path != "/graphql":
                self._send(404, b"404 page not found", {})
                return
            if self.headers.get("Authorization") != expected:
                self._send(401, b'{"errors": [{"message": "user is not logged in"}]}', {})
                return
            page = bool(asked.variables.get("after") or asked.variables.get("cursor"))
            lost: HttpFault | None = None
            for fault in fake.faults.of(asked.operation, page):
                fake.wait(fault)
                if fault.applied:
                    lost = fault
                elif fault.status or fault.drops or fault.drips:
                    self._fail(fault)
                    return
            # An answer that nobody waits for any more: the work is done all the same.
            answer = json.dumps(fake.answer(asked)).encode()
            if lost:
                self._fail(lost)
            else:
                self._send(200, answer, {"Content-Type": "application/json"})

        def _fail(self, fault: HttpFault) -> None:
            if fault.drops:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
            elif fault.drips:
                self._drip(fault.drips)
            else:
                self._send(fault.status, fault.body, fault.headers)

        def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _drip(self, part: str) -> None:
            self.close_connection = True
            begin, drop = b"X-Drip: ", b"x"
            if part == "body":
                begin, drop = b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"
            self.wfile.write(b"HTTP/1.1 200 OK\r\n" + begin)
            end = time.monotonic() + PATIENCE_SECONDS
            while time.monotonic() < end and not fake._closing.wait(DRIP_SECONDS):
                self.wfile.write(drop)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    return Handler
