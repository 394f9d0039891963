"""What went wrong in an engine: out of memory, a dead device, or a failure of the work itself."""

from resources.gpu.engines.base import EngineError
from resources.interaction import ErrorClass

_MOST_CHARACTERS = 500


def out_of_memory(error: BaseException) -> bool:
    import torch

    is_memory = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    return is_memory or "can't allocate memory" in str(error)


def from_the_device(error: BaseException) -> bool:
    """A CUDA error: after most of them no later call in this process succeeds."""
    import torch

    return isinstance(error, torch.AcceleratorError)


def classify(error: BaseException) -> EngineError:
    """Out of memory, or a failure of the engine; the message is the error's first line."""
    text = str(error).strip()
    message = f"{type(error).__name__}: {text.splitlines()[0] if text else ''}"
    found = ErrorClass.OOM if out_of_memory(error) else ErrorClass.ENGINE
    return EngineError(found, message[:_MOST_CHARACTERS])
