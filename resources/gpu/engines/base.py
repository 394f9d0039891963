"""What every engine offers: requests in, completions out as they finish, errors per request."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from resources.gpu.dtype_probe import DtypeChoice
from resources.interaction import ErrorClass

FinishReason = Literal["stop", "length", "repetition", "error"]
"""``repetition``: cut, since the text only repeated itself."""


@dataclass(frozen=True)
class GenerationRequest:
    """One prompt and how to continue it. ``request_id`` is the caller's and must be unique in a call."""

    request_id: int
    prompt: str
    max_new_tokens: int
    expected_tokens: int | None = None
    """How long the answer will probably be: orders a batch, changes no text."""
    system: str | None = None
    temperature: float = 0.0
    """0 is greedy; the seed then has no effect."""
    seed: int = 0
    top_p: float = 1.0
    top_k: int = 0
    """0 keeps every token."""
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    """The text ends before the first of these."""
    json_schema: Mapping[str, Any] | None = None
    one_of: tuple[str, ...] | None = None
    """The text is exactly one of these. Excludes ``json_schema``."""


@dataclass(frozen=True)
class EngineError:
    """Why a request has no text."""

    error_class: ErrorClass
    message: str


@dataclass(frozen=True)
class Completion:
    """The end of one request: ``text``, or ``error`` with finish_reason 'error'."""

    request_id: int
    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    output_tokens: int
    seconds: float
    """From the start of the request's batch to the end of this row."""
    error: EngineError | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """How it was made: engine, attention, dtype, device, model_sha256, batch_id, batch_size,
    shared_prefix_tokens, seed, temperature, grammar. Empty for a request that was refused."""


class Engine(Protocol):
    """A loaded model. ``generate`` is called by one thread at a time, ``check`` by any."""

    max_batch: int

    @property
    def dtype(self) -> DtypeChoice:
        """What the model computes in, and why."""
        ...

    @property
    def memory_bytes(self) -> int:
        """Of the parameters in this machine's or its device's memory."""
        ...

    @property
    def workspace_seen(self) -> int | None:
        """The most bytes beside the weights that a batch was seen to take; None before one was."""
        ...

    def check(self, request: GenerationRequest) -> EngineError | None:
        """Return why the request cannot run, or None. Cheap: tokenizes, compiles its grammar once."""
        ...

    def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[Completion]:
        """Yield exactly one completion per request, each as it finishes.

        A bad request or a failing forward pass becomes a completion with an error, never an exception.
        """
        ...

    def trim(self) -> None:
        """Free what is not the weights; the next ``generate`` takes it again."""
        ...

    def park(self) -> bool:
        """Move the weights to the host's memory; False when they are there or there is no room."""
        ...

    def resume(self) -> None:
        """Move the weights back to the device."""
        ...

    def close(self) -> None:
        """Free the model's memory. The engine cannot be used afterwards."""
        ...
