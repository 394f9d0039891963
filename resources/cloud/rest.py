"""GET over HTTP from Google's REST APIs and from image registries: one deadline for all of a question."""

import json
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import httpx

from resources.cloud.credentials import Access
from resources.cloud.errors import (
    CloudError,
    Denied,
    NotFound,
    Refused,
    Throttled,
    TimedOut,
    Unavailable,
)

LARGEST_ANSWER_BYTES = 4_000_000

_LONGEST_TEXT = 300

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """``who``: the server, for messages."""

    who: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Mapping[str, Any]:
        """CloudError for a status that is no 2xx, and for what is no JSON object."""
        failed = self.failure()
        if failed is not None:
            raise failed
        read = _json(self.body)
        if not isinstance(read, Mapping):
            raise Unavailable(f"{self.who} answered with something that is no JSON object")
        return read

    def failure(self) -> CloudError | None:
        if 200 <= self.status < 300:
            return None
        message, code, reason = _told(_json(self.body))
        said = f"{self.who} answered {self.status}" + (f": {message}" if message else "")
        kind = _kind(self.status)
        return kind(said, code, reason, _seconds(self.headers.get("retry-after", "")))


def within(seconds: float, who: str, ask: Callable[[float], T]) -> T:
    """``ask``: gets the end on ``time.monotonic``. CloudError when it is not done by then.

    In a thread of its own: httpx bounds each read, but neither their sum, a look-up nor a token.
    """
    late = f"{who} gave no whole answer within {seconds:g} s"
    if seconds <= 0:
        raise TimedOut("no time left for the call")
    end = time.monotonic() + seconds
    answers: SimpleQueue[tuple[T | None, Exception | None]] = SimpleQueue()

    def work() -> None:
        try:
            answers.put((ask(end), None))
        except Exception as error:
            answers.put((None, error))

    # Not an executor: at the end of the program it would wait for a thread that hangs.
    threading.Thread(target=work, name=f"ask {who}", daemon=True).start()
    try:
        answer, error = answers.get(timeout=max(0.0, end - time.monotonic()))
    except Empty:
        raise TimedOut(late) from None
    if isinstance(error, httpx.TimeoutException):
        raise TimedOut(late) from None
    if isinstance(error, httpx.HTTPError | httpx.InvalidURL | OSError):
        raise Unavailable(f"{who} did not answer: {error or type(error).__name__}") from None
    if error is not None:
        raise error
    return answer  # type: ignore[return-value]


def get(client: httpx.Client, url: str, headers: Mapping[str, str], end: float, who: str) -> Answer:
    """One request, redirects followed. To be called within ``within``."""
    left = max(0.001, end - time.monotonic())
    with client.stream(
        "GET", url, headers=dict(headers), timeout=left, follow_redirects=True
    ) as response:
        body = b""
        for part in response.iter_bytes():
            body += part
            if len(body) > LARGEST_ANSWER_BYTES:
                size = f"{LARGEST_ANSWER_BYTES / 1e6:g} MB"
                raise Unavailable(f"the answer of {who} is larger than {size}")
            if time.monotonic() > end:
                raise httpx.ReadTimeout("the body took too long")
        return Answer(who, response.status_code, response.headers, body)


class GoogleToken:
    """Of Application Default Credentials; got when it is needed, and again when it is too old."""

    def __init__(self, access: Access) -> None:
        self._credentials = access.credentials
        self._lock = threading.Lock()

    def headers(self, with_quota_project: bool = True) -> dict[str, str]:
        """It may wait for the token's server: call it within ``within``. Denied without a token."""
        if self._credentials is None:
            raise Denied("there are no Google credentials")
        from google.auth.exceptions import GoogleAuthError, TransportError
        from google.auth.transport.requests import Request

        with self._lock:
            if not self._credentials.valid:
                try:
                    self._credentials.refresh(Request())
                except TransportError as error:
                    raise Unavailable(f"no token for Google's APIs: {error}") from error
                except GoogleAuthError as error:
                    raise Denied(f"no token for Google's APIs: {error}") from error
            headers = {"Authorization": f"Bearer {self._credentials.token}"}
        project = getattr(self._credentials, "quota_project_id", None)
        if project and with_quota_project:
            headers["X-Goog-User-Project"] = project
        return headers


def _kind(status: int) -> type[CloudError]:
    if status in (401, 403):
        return Denied
    if status == 404:
        return NotFound
    if status == 429:
        return Throttled
    return Unavailable if status >= 500 or status == 408 else Refused


def _told(read: Any) -> tuple[str, str, str]:
    """Message, code and reason: of a Google API's ``error``, or of a registry's ``errors``."""
    found = read if isinstance(read, Mapping) else {}
    errors = found.get("errors")
    error = errors[0] if isinstance(errors, list) and errors else found.get("error")
    if not isinstance(error, Mapping):
        return "", "", ""
    code = str(error.get("status") or "")
    details = error.get("details") or error.get("detail")
    reasons = [
        str(detail["reason"])
        for detail in (details if isinstance(details, list) else [])
        if isinstance(detail, Mapping) and detail.get("reason")
    ]
    message = " ".join(str(error.get("message") or error.get("code") or "").split())
    return message[:_LONGEST_TEXT], code, reasons[0] if reasons else ""


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
