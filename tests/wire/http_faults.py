"""What the fake W&B does wrong, by operation."""

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

ANY = "*"


@dataclass(frozen=True)
class HttpFault:
    """``status`` 0: none, the true answer comes after ``seconds``.

    ``applied``: the call has its effect and only the answer is lost.
    """

    status: int = 0
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    hangs: bool = False
    applied: bool = False
    drops: bool = False
    """The connection ends without an answer."""
    drips: Literal["", "head", "body"] = ""
    """The head or the body comes byte by byte and has no end."""
    second_page: bool = False
    """Only a call that brings a cursor."""


def latency(seconds: float) -> HttpFault:
    return HttpFault(seconds=seconds)


def hang() -> HttpFault:
    """No answer before the server is closed."""
    return HttpFault(hangs=True)


def drip(part: Literal["head", "body"]) -> HttpFault:
    return HttpFault(drips=part)


def drop(applied: bool = False) -> HttpFault:
    return HttpFault(drops=True, applied=applied)


def status(code: int, said: str = "", **headers: str) -> HttpFault:
    """``headers``: with _ for -."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpFault(code, said.encode(), named)


def throttled(retry_after: str = "30") -> HttpFault:
    return status(429, "rate limit exceeded", Retry_After=retry_after)


def lost_answer() -> HttpFault:
    """A gateway's 502 after the work was done."""
    return HttpFault(502, b"<html>Bad Gateway</html>", applied=True)


def second_page() -> HttpFault:
    return HttpFault(503, second_page=True)


def answer(body: bytes) -> HttpFault:
    return HttpFault(200, body)


def refused(message: str, code: str = "", data: object = None) -> HttpFault:
    """GraphQL's own way to say no, with status 200."""
    error = {"message": message, "path": ["project"], "extensions": {"code": code}}
    return answer(json.dumps({"errors": [error], "data": data}).encode())


@dataclass
class _Planned:
    fault: HttpFault
    operation: str
    left: int | None


@dataclass
class HttpFaults:
    _planned: list[_Planned] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, fault: HttpFault, operation: str = ANY, times: int | None = None) -> None:
        """``operation``: as the document names it (``Viewer``); ``times``: None for every time."""
        with self._lock:
            self._planned.append(_Planned(fault, operation, times))

    def clear(self) -> None:
        with self._lock:
            self._planned.clear()

    def of(self, operation: str, page: bool) -> Sequence[HttpFault]:
        """Those that a call meets, in the order they were added; each is used up by one."""
        met = []
        with self._lock:
            for planned in self._planned:
                if planned.operation not in (ANY, operation) or planned.left == 0:
                    continue
                if planned.fault.second_page and not page:
                    continue
                if planned.left is not None:
                    planned.left -= 1
                met.append(planned.fault)
        return met
