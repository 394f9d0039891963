"""The completion of a request that has no text."""

from collections.abc import Mapping
from typing import Any

from resources.gpu.engines.base import Completion, EngineError, GenerationRequest


def failed(
    request: GenerationRequest,
    error: EngineError,
    prompt_tokens: int = 0,
    seconds: float = 0.0,
    provenance: Mapping[str, Any] | None = None,
) -> Completion:
    """``request`` ended with ``error``. A request that was refused has no tokens, time or provenance."""
    return Completion(
        request_id=request.request_id,
        text="",
        finish_reason="error",
        prompt_tokens=prompt_tokens,
        output_tokens=0,
        seconds=seconds,
        error=error,
        provenance=provenance or {},
    )
