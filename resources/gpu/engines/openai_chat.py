"""The chat protocol of OpenAI-compatible servers: a request as its body, a reply as text or fault. Pure."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from resources.gpu.engines.base import EngineError, FinishReason, GenerationRequest
from resources.interaction import ErrorClass

_TOO_LONG = re.compile(
    r"context.{0,3}(length|window|size|limit)|exceed_context|(prompt|input) is too long"
    r"|maximum (model|sequence|input|prompt) length|max_model_len|too many (input |prompt )?tokens",
    re.IGNORECASE,
)
"""How servers say that prompt and new tokens do not fit into the context."""
_CLASSES = {
    408: ErrorClass.TIMEOUT,
    429: ErrorClass.RATE_LIMIT,
    502: ErrorClass.CONNECTION,
    503: ErrorClass.RATE_LIMIT,
    504: ErrorClass.TIMEOUT,
    529: ErrorClass.RATE_LIMIT,
}
"""By HTTP status; any other is ``engine``."""
_MOST_TOKENS = 10_000_000
"""Of one request; what claims more is not believed."""
_LOOKED_AT = 100_000
"""Characters of an error's body."""
_SENTENCE = 300
"""Most characters that are kept of what a server says."""


@dataclass(frozen=True)
class Answer:
    """What a server made of one request."""

    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    """0 when the server does not count."""
    output_tokens: int
    fingerprint: str | None
    """The server's ``system_fingerprint``."""


class Fault(Exception):
    """Why there is no answer."""

    def __init__(
        self,
        error_class: ErrorClass,
        message: str,
        *,
        retry_after: float | None = None,
        refused: bool = False,
    ) -> None:
        """``retry_after``: seconds that the server asks for. ``refused``: the same again is in vain."""
        super().__init__(message)
        self.error = EngineError(error_class, message)
        self.retry_after = retry_after
        self.refused = refused

    @property
    def overload(self) -> bool:
        """The server has more to do than it can."""
        return self.error.error_class in (ErrorClass.RATE_LIMIT, ErrorClass.TIMEOUT)


def chat_body(request: GenerationRequest, model: str, constrained: bool) -> dict[str, Any]:
    """The body for /chat/completions. ``constrained``: ask for the request's grammar too."""
    messages = [{"role": "user", "content": request.prompt}]
    if request.system:
        messages.insert(0, {"role": "system", "content": request.system})
    body: dict[str, Any] = {
        "model": model,
        "messages": messages,
        "max_tokens": request.max_new_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "seed": request.seed,
        "stream": False,
    }
    if request.stop:
        body["stop"] = list(request.stop)
    # Not of OpenAI's protocol: a server that knows it not may refuse it, which is better than
    # another sampling than the one asked for.
    if request.top_k:
        body["top_k"] = request.top_k
    if request.repetition_penalty != 1:
        body["repetition_penalty"] = request.repetition_penalty
    if constrained and (schema := _schema(request)) is not None:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": schema, "strict": True},
        }
    return body


def _schema(request: GenerationRequest) -> Mapping[str, Any] | None:
    """A list of alternatives goes as a JSON text too: every server that constrains knows schemas."""
    if request.one_of is not None:
        return {"type": "string", "enum": list(request.one_of)}
    return request.json_schema


def read_answer(content: bytes, request: GenerationRequest) -> Answer:
    """The answer in a body of status 200. Fault of class ``engine`` when there is none in it."""
    reply = parsed(content)
    try:
        choice = reply["choices"][0]
        text = choice["message"]["content"]
    except (LookupError, TypeError):
        if not content.strip():
            raise Fault(ErrorClass.ENGINE, "the server answered with an empty body") from None
        raise _no_answer(reply) from None
    cut_off = choice.get("finish_reason") == "length"
    if text is None and cut_off:  # a model that thinks first did not come to its answer
        text = ""
    if not isinstance(text, str):
        raise Fault(ErrorClass.ENGINE, "the server answered without a text")
    usage = reply.get("usage")
    fingerprint = reply.get("system_fingerprint")
    return Answer(
        text=_unquoted(_ended(text, request.stop), request.one_of),
        finish_reason="length" if cut_off else "stop",
        prompt_tokens=_count(usage, "prompt_tokens"),
        output_tokens=_count(usage, "completion_tokens"),
        fingerprint=fingerprint[:100] if isinstance(fingerprint, str) and fingerprint else None,
    )


def parsed(content: str | bytes) -> Any:
    """Foreign JSON; None when it cannot be read."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _no_answer(reply: Any) -> Fault:
    """What a body without an answer means: some servers put an error and its status there."""
    error = reply.get("error") if isinstance(reply, dict) else None
    said = _sentence(error) if error else ""
    code = error.get("code") if isinstance(error, dict) else None
    error_class = _CLASSES.get(code) if isinstance(code, int) else None
    what = f"an error: {said}" if said else "no chat completion"
    return Fault(error_class or ErrorClass.ENGINE, f"the server answered with {what}")


def _ended(text: str, stop: tuple[str, ...]) -> str:
    """Before the first stop text: some servers leave it in."""
    places = [place for place in map(text.find, stop) if place >= 0]
    return text[: min(places)] if places else text


def _unquoted(text: str, one_of: tuple[str, ...] | None) -> str:
    """The alternative itself, where it came as a JSON text."""
    if one_of is None or not text.strip().startswith('"'):
        return text
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if value in one_of else text


def _count(usage: Any, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if type(value) is int and 0 < value <= _MOST_TOKENS else 0


def read_fault(status: int, content: str, retry_after: str | None, now: datetime) -> Fault:
    """What a status other than 200 means. ``now``: with a zone, for a Retry-After that is a date."""
    said = server_sentence(content)
    message = f"the server answered {status}" + (f": {said}" if said else "")
    too_long = status == 413 or (status in (400, 422) and _TOO_LONG.search(content[:_LOOKED_AT]))
    error_class = (
        ErrorClass.PROMPT_TOO_LONG if too_long else _CLASSES.get(status, ErrorClass.ENGINE)
    )
    refused = status < 500 and status not in _CLASSES
    seconds = _retry_seconds(retry_after, now)
    return Fault(error_class, message, retry_after=seconds, refused=refused)


def server_sentence(content: str) -> str:
    """The first line of what a server says about an error, shortened; empty for a page or nothing."""
    text = content[:_LOOKED_AT]
    said = parsed(text)
    if said is None and not text.lstrip().startswith(("<", "{", "[")):
        said = text
    return _sentence(said)


def _sentence(said: Any) -> str:
    """The first line of a decoded error."""
    # OpenAI: {"error": {"message": ...}}; others: {"error": ...}, {"message": ...}, {"detail": ...}
    for key in ("error", "message", "detail"):
        if isinstance(said, dict) and key in said:
            said = said[key]
    if said and not isinstance(said, str):
        said = json.dumps(said)
    lines = (said or "")[:_LOOKED_AT].strip().splitlines()
    return printable(lines[0]) if lines else ""


def printable(text: str) -> str:
    """What a server says, fit for a terminal: no control characters, shortened."""
    return "".join(filter(str.isprintable, text))[:_SENTENCE]


def _retry_seconds(header: str | None, now: datetime) -> float | None:
    """Retry-After as seconds from now: it comes as a number or as an HTTP date."""
    if header is None:
        return None
    if re.fullmatch(r"\d{1,9}(\.\d+)?", header.strip()):
        return float(header)
    try:
        date = parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - now).total_seconds())
