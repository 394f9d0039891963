"""A small HTTP server that answers GET, and fails as a test wrote it."""

import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from tests.wire.http_faults import HttpFault, HttpFaults

PATIENCE_SECONDS = 60
DRIP_SECONDS = 0.02


@dataclass(frozen=True)
class Page:
    status: int
    body: bytes = b""
    headers: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Visit:
    """One request as it came."""

    path: str
    headers: Mapping[str, str]


class HttpServer(ABC):
    """``faults``: by the last part of a path, without its query."""

    def __init__(self) -> None:
        self.faults = HttpFaults()
        self.visits: list[Visit] = []
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @abstractmethod
    def page(self, visit: Visit) -> Page: ...

    def wait(self, fault: HttpFault) -> None:
        self._closing.wait(PATIENCE_SECONDS if fault.hangs else fault.seconds)

    def is_closing(self, seconds: float) -> bool:
        return self._closing.wait(seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(server: HttpServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            visit = Visit(self.path, headers)
            server.visits.append(visit)
            last = self.path.partition("?")[0].rsplit("/", 1)[-1]
            try:
                for fault in server.faults.of(last, page=False):
                    server.wait(fault)
                    if fault.status or fault.drops or fault.drips:
                        self._fail(fault)
                        return
                found = server.page(visit)
                self._send(found.status, found.body, found.headers or {})
            except OSError:  # the client has left
                self.close_connection = True

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
            while time.monotonic() < end and not server.is_closing(DRIP_SECONDS):
                self.wfile.write(drop)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    return Handler
