"""HTTP to Google's REST APIs, image registries and W&B: one deadline for all of a question."""

import json
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx

from resources.cloud.ask_all import ask_all
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
        code, reason = _codes(_json(self.body))
        said = f"{self.who} answered {self.status}{_words(self.body)}"
        return _kind(self.status)(said, code, reason, _retry_after(self.headers))


def within(seconds: float, who: str, ask: Callable[[float], T]) -> T:
    """``ask``: gets the end on ``time.monotonic``. CloudError when it is not done by then.

    In a thread of its own: httpx bounds each read, but neither their sum, a look-up nor a token.
    """
    late = f"{who} gave no whole answer within {seconds:g} s"
    if seconds <= 0:
        raise TimedOut("no time left for the call")
    end = time.monotonic() + seconds
    try:
        answer: T = ask_all({who: lambda _: ask(end)}, seconds, late)[who]
    except httpx.TimeoutException:
        raise TimedOut(late) from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        # Not as its cause: a traceback would show what the server sent, unchecked.
        raise Unavailable(f"{who} did not answer: {error or type(error).__name__}") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def get(client: httpx.Client, url: str, headers: Mapping[str, str], end: float, who: str) -> Answer:
    """One request, redirects followed. To be called within ``within``."""
    return _sent(client, "GET", url, headers, end, who, LARGEST_ANSWER_BYTES)


def post(
    client: httpx.Client,
    url: str,
    headers: Mapping[str, str],
    content: bytes,
    end: float,
    who: str,
    largest: int,
) -> Answer:
    """One request, no redirect followed. ``largest``: bytes. To be called within ``within``."""
    return _sent(client, "POST", url, headers, end, who, largest, content)


def _sent(
    client: httpx.Client,
    method: str,
    url: str,
    headers: Mapping[str, str],
    end: float,
    who: str,
    largest: int,
    content: bytes | None = None,
) -> Answer:
    left = max(0.001, end - time.monotonic())
    with client.stream(
        method,
        url,
        headers=dict(headers),
        content=content,
        timeout=left,
        follow_redirects=content is None,
    ) as response:
        parts, size = [], 0
        for part in response.iter_bytes():
            parts.append(part)
            size += len(part)
            if size > largest:
                raise Unavailable(f"the answer of {who} is larger than {largest / 1e6:g} MB")
            if time.monotonic() > end:
                raise httpx.ReadTimeout("the body took too long")
        return Answer(who, response.status_code, response.headers, b"".join(parts))


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
    return Unavailable if status >= 500 or status < 400 or status == 408 else Refused


def _codes(read: Any) -> tuple[str, str]:
    """Code and reason: of a Google API's ``error``, or of a registry's ``errors``."""
    found = read if isinstance(read, Mapping) else {}
    errors = found.get("errors")
    error = errors[0] if isinstance(errors, list) and errors else found.get("error")
    if not isinstance(error, Mapping):
        return "", ""
    details = error.get("details") or error.get("detail")
    reasons = [
        str(detail["reason"])
        for detail in (details if isinstance(details, list) else [])
        if isinstance(detail, Mapping) and detail.get("reason")
    ]
    return str(error.get("status") or ""), reasons[0] if reasons else ""


def _words(body: bytes) -> str:
    """Of a JSON error, or of plain text; a gateway's page says nothing that its status does not."""
    read = _json(body)
    if read is None:
        read = body[: 4 * _LONGEST_TEXT].decode("utf-8", "replace").strip()
    while isinstance(read, (Mapping, list)):
        if isinstance(read, Mapping):
            read = read.get("errors") or read.get("error") or read.get("message") or _code(read)
        else:
            read = read[0] if read else None
    return f": {short(read)}" if isinstance(read, str) and read[:1] not in ("", "<") else ""


def _code(error: Mapping[str, Any]) -> str:
    """In place of words, as in a registry's error."""
    return str(error.get("code") or "")


def short(text: str) -> str:
    """On one line, cut."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _LONGEST_TEXT else f"{line[:_LONGEST_TEXT]}…"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds: of Retry-After, a number or a date, or of W&B's RateLimit-Reset."""
    value = headers.get("retry-after") or headers.get("ratelimit-reset") or ""
    try:
        seconds = float(value)
    except ValueError:
        try:
            at = parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
        seconds -= datetime.now(UTC).timestamp()
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _json(body: bytes) -> Any:
    """None for what is no JSON."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
