"""A small HTTP server that speaks the chat protocol and answers as a test wrote it."""

import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self

PATIENCE_SECONDS = 30
DRIP_SECONDS = 0.05


@dataclass(frozen=True)
class Reply:
    """One answer of the script."""

    status: int = 200
    body: bytes | dict[str, Any] | None = None
    """None is a chat completion that repeats the prompt."""
    headers: Mapping[str, str] = field(default_factory=dict)
    missing: int = 0
    """Bytes that Content-Length promises and that never come."""
    seconds: float = 0.0
    hangs: bool = False
    """No answer before the server is closed."""
    drips: Literal["", "head", "body"] = ""
    """The head or the body comes byte by byte and has no end."""


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    at: float
    body: dict[str, Any]
    headers: Mapping[str, str]

    @property
    def prompt(self) -> str:
        return str(self.body["messages"][-1]["content"])


def completion(text: str | None, **more: Any) -> dict[str, Any]:
    usage = {"prompt_tokens": 5, "completion_tokens": 2}
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": "stop",
    }
    return {"object": "chat.completion", "choices": [choice | more], "usage": usage}


class ChatServer:
    """``script``: prompt -> the replies to it in turn, the last one for ever. Others are repeated."""

    def __init__(
        self,
        script: Mapping[str, Sequence[Reply]] | None = None,
        models: Reply | None = None,
        usual: Reply | None = None,
        capacity: int | None = None,
    ) -> None:
        """``capacity``: with more than so many requests at once it answers 503."""
        self.asked: list[Asked] = []
        self.most_at_once = 0
        self._script = dict(script or {})
        self._models = models or Reply(body={"data": [{"id": "echo"}]})
        self._usual = usual or Reply()
        self._capacity = capacity
        self._now = 0
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def script(self, prompt: str, *replies: Reply) -> None:
        """The replies to the prompt from now on, in turn, the last one for ever."""
        self._script[prompt] = replies

    def times(self, prompt: str) -> list[float]:
        """When the prompt was asked, by time.monotonic."""
        return [asked.at for asked in self.asked if asked.prompt == prompt]

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _reply(self, asked: Asked) -> Reply:
        with self._lock:
            self.asked.append(asked)
            if self._capacity is not None and self._now > self._capacity:
                return Reply(503, {"error": "busy"})
            replies = self._script.get(asked.prompt, [self._usual])
            return replies[min(len(self.times(asked.prompt)), len(replies)) - 1]

    def _count(self, change: int) -> None:
        with self._lock:
            self._now += change
            self.most_at_once = max(self.most_at_once, self._now)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                self._send(server._models, "")

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if server._closing.is_set():
                    self.close_connection = True
                    return
                asked = Asked(time.monotonic(), body, dict(self.headers))
                server._count(1)
                reply = server._reply(asked)
                server._closing.wait(PATIENCE_SECONDS if reply.hangs else reply.seconds)
                server._count(-1)
                self._send(reply, asked.prompt)

            def _send(self, reply: Reply, prompt: str) -> None:
                body = completion(prompt) if reply.body is None else reply.body
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                try:
                    if reply.drips:
                        self._drip(reply.drips)
                        return
                    self.send_response(reply.status)
                    for name, value in reply.headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(content) + reply.missing))
                    self.end_headers()
                    self.wfile.write(content)
                except OSError:  # the client has left
                    self.close_connection = True
                if reply.missing or server._closing.is_set():
                    self.close_connection = True

            def _drip(self, part: str) -> None:
                self.close_connection = True
                begin, drop = b"X-Drip: ", b"x"
                if part == "body":
                    begin, drop = b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"
                self.wfile.write(b"HTTP/1.1 200 OK\r\n" + begin)
                end = time.monotonic() + PATIENCE_SECONDS
                while time.monotonic() < end and not server._closing.wait(DRIP_SECONDS):
                    self.wfile.write(drop)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        return Handler
