"""An OpenAI-compatible server: where it is, its key, and whether it has the model."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import tenacity

from resources.errors import ConfigurationError, InfrastructureError
from resources.gpu.engines.loop_thread import LoopThread
from resources.gpu.engines.openai_chat import Fault, parsed, printable, server_sentence
from resources.gpu.model_config import ModelConfig
from resources.interaction import ErrorClass

if TYPE_CHECKING:
    import httpx

_PROBE_SECONDS = 5.0
_NAMES_SHOWN = 5
_MOST_BYTES = 16 * 2**20
"""Of an answer."""
_ENCODINGS = ("gzip", "deflate")
"""Each unpacks to at most a thousand times its size; others, or two in turn, have no such bound."""


@dataclass(frozen=True)
class Patience:
    """How often and how long a call is tried. Times in seconds."""

    passing_tries: int = 6
    """While the server is away, or has too much to do."""
    other_tries: int = 2
    """After a timeout, an error of the server's own, an answer that is none."""
    first_wait: float = 0.5
    """Doubles with every try; each wait is jittered by half."""
    longest_wait: float = 60.0
    """Also of what the server asks for."""


class OpenAIServer:
    """The server of one model of forge.yaml."""

    def __init__(self, config: ModelConfig, model_key: str) -> None:
        """Read the key from the environment. ConfigurationError when it is not there."""
        assert config.url is not None
        self.url = config.url
        self.host = config.host
        self.model = config.source
        self._field = f"models.{model_key}"
        self._variable = config.api_key_env
        self._key = self._read_key()

    def _read_key(self) -> str | None:
        if self._variable is None:
            return None
        key = os.environ.get(self._variable, "").strip()
        if not key or not key.isascii() or not key.isprintable():
            state = "holds no key that can be sent" if key else "is not set"
            raise ConfigurationError(
                f"{self._field}.api_key_env: the environment variable {self._variable} {state};"
                " set it to the server's key"
            )
        return key

    @property
    def headers(self) -> dict[str, str]:
        """With the key, if one is configured."""
        accept = {"Accept-Encoding": ", ".join(_ENCODINGS)}
        return accept if self._key is None else accept | {"Authorization": f"Bearer {self._key}"}

    def redacted(self, text: str) -> str:
        """What the server said, without the key."""
        return text.replace(self._key, "***") if self._key else text

    async def content(self, reply: "httpx.Response") -> bytes:
        """The body, unpacked; Fault when it is larger than any answer."""
        encoding = reply.headers.get("Content-Encoding", "").strip().lower()
        if encoding not in ("", "identity", *_ENCODINGS):
            what = f"in the encoding {printable(encoding)}, which was not asked for"
            raise Fault(ErrorClass.ENGINE, f"{self.host} answered {what}")
        parts = bytearray()
        async for part in reply.aiter_bytes():
            parts += part
            if len(parts) > _MOST_BYTES:
                size = f"{_MOST_BYTES // 2**20} MB"
                raise Fault(ErrorClass.ENGINE, f"{self.host} answered with over {size}")
        return bytes(parts)

    def wait_for_model(self, patience: Patience) -> str:
        """``find_model``, and again while the server is away; InfrastructureError when it stays away."""
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(InfrastructureError),
            stop=tenacity.stop_after_attempt(patience.passing_tries),
            wait=tenacity.wait_random_exponential(patience.first_wait, patience.longest_wait),
            reraise=True,
        )
        return retrying(self.find_model)

    def find_model(self) -> str:
        """Ask the server, for at most five seconds, which models it has. Returns what it said.

        ConfigurationError when it refuses or lacks the model, InfrastructureError without an answer.
        """
        import httpx

        place = f"{self.url}/models"
        try:
            status, content = self._get(place)
        except (httpx.InvalidURL, UnicodeError):
            raise ConfigurationError(
                f"{self._field}.url: is no URL; write http://HOST:PORT/v1"
            ) from None
        except Fault as fault:
            raise ConfigurationError(
                f"{self._field}.url: {self.redacted(str(fault))}; write the url of an"
                " OpenAI-compatible server"
            ) from None
        except (TimeoutError, httpx.HTTPError) as error:
            reason = self.redacted(printable(_reason(error)))
            raise InfrastructureError(
                f"{self._field}.url: no answer from {place} ({reason}); start the server or correct"
                " the url, then run the same command again"
            ) from None
        self._check_status(status, content, place)
        return self._check_names(_names(content))

    def _get(self, place: str) -> tuple[int, bytes]:
        """Status and body. TimeoutError after five seconds in all, however the server spends them."""
        # A loop, because httpx alone bounds single reads; on a thread, because the end of
        # asyncio.run would wait for a name server.
        loop = LoopThread("model list")
        try:
            work = loop.start(self._read(place))
            try:
                loop.run(asyncio.wait([work]))
            finally:
                loop.stop(work)
        finally:
            loop.close()
        return work.result()

    async def _read(self, place: str) -> tuple[int, bytes]:
        import httpx

        async with (
            asyncio.timeout(_PROBE_SECONDS),
            httpx.AsyncClient(headers=self.headers, timeout=None) as client,
            client.stream("GET", place) as reply,
        ):
            return reply.status_code, await self.content(reply)

    def _check_status(self, status: int, content: bytes, place: str) -> None:
        if 200 <= status < 300:
            return
        said = self.redacted(server_sentence(content.decode(errors="replace")))
        answered = f"{self._field}.url: {place} answered {status}" + (f" ({said})" if said else "")
        if status in (401, 403):
            fix = "set" if self._variable is None else "correct the key in"
            raise ConfigurationError(f"{answered}; {fix} {self._variable or 'api_key_env'}")
        if status == 404:
            raise ConfigurationError(
                f"{answered}; end the url where /models follows, mostly at /v1"
            )
        if status == 429 or status >= 500:
            raise InfrastructureError(f"{answered}; run the same command when the server is well")
        raise ConfigurationError(f"{answered}; write the url of an OpenAI-compatible server")

    def _check_names(self, names: Sequence[str]) -> str:
        if not names:
            return f"{self.host} answers and lists no models"
        if {self.model, f"{self.model}:latest"} & set(names):  # Ollama adds the tag itself
            return f"{self.host} has {self.model}"
        # A server that was given a folder may list only what it could fetch besides.
        if self.model.startswith("/"):
            return f"{self.host} answers and does not list its folder {self.model}"
        shown = [self.redacted(printable(name)) for name in names[:_NAMES_SHOWN]]
        listed = ", ".join(shown) + (", …" if len(names) > _NAMES_SHOWN else "")
        raise ConfigurationError(
            f"{self._field}.source: {self.host} has no '{self.model}', it lists {listed}; correct the"
            " name or load the model there"
        )


def _reason(error: Exception) -> str:
    """Why there was no answer."""
    if isinstance(error, TimeoutError):
        return f"not in {_PROBE_SECONDS:g} s"
    cause: BaseException = error
    while (deeper := cause.__cause__ or cause.__context__) is not None:
        cause = deeper
    # Of a refused connection the error itself says only that all attempts failed.
    if isinstance(cause, ConnectionError) and cause.errno:
        return os.strerror(cause.errno)
    return str(error) or type(error).__name__


def _names(content: bytes) -> list[str]:
    """The ids of a model list; none when the body is something else."""
    try:
        return sorted(str(model["id"]) for model in parsed(content)["data"])
    except (LookupError, TypeError, RecursionError):
        return []
