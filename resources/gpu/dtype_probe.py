"""Which number type a model runs in: what the configuration says, else what this device is faster in."""

import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from resources.errors import ConfigurationError
from resources.gpu.model_config import Dtype

if TYPE_CHECKING:
    import torch

_ROWS, _INNER, _OUTER = 32, 768, 2048
"""A linear layer of a small model, at the size of a decode batch."""
_WEIGHTS = 24
"""Different weights in turn, so that they do not all stay in the cache."""
_MARGIN = 1.15
"""bfloat16 must be this much faster to be worth its rounding."""


@dataclass(frozen=True)
class DtypeChoice:
    """A dtype and why."""

    name: str
    reason: str


def choose_device(configured: str) -> "torch.device":
    """'auto' is CUDA where torch has one. Raises ConfigurationError for a CUDA device that is not there."""
    import torch

    if configured == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    device = torch.device(configured)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigurationError(
            f"device: '{configured}' is configured and torch sees {torch.cuda.device_count()} CUDA devices;"
            " use 'auto' or 'cpu', or repair the driver."
        )
    return device


def choose_dtype(configured: Dtype, device: "torch.device") -> DtypeChoice:
    """The configured dtype, or the measured one for 'auto' (under 0.5 s, once per process)."""
    import torch

    if configured != "auto":
        return DtypeChoice(configured, "configured")
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        name = "bfloat16" if major >= 8 else "float16"
        return DtypeChoice(name, f"CUDA capability {major}.{minor}")
    if device.type != "cpu":
        return DtypeChoice("float32", f"no rule for {device.type}")
    return _measure_cpu()


@lru_cache(maxsize=1)
def _measure_cpu() -> DtypeChoice:
    import torch

    single, half = _seconds(torch.float32), _seconds(torch.bfloat16)
    ratio = single / half
    name = "bfloat16" if ratio >= _MARGIN else "float32"
    flags = ", ".join(cpu_features()) or "no matrix extensions"
    return DtypeChoice(name, f"bfloat16 is {ratio:.1f} times as fast as float32 here ({flags})")


def _seconds(dtype: "torch.dtype") -> float:
    """Best of three rounds over all weights."""
    import torch

    with torch.inference_mode():
        values = torch.ones((_ROWS, _INNER), dtype=dtype)
        weights = [torch.ones((_OUTER, _INNER), dtype=dtype) for _ in range(_WEIGHTS)]
        best = float("inf")
        for _ in range(4):
            start = time.perf_counter()
            for weight in weights:
                torch.nn.functional.linear(values, weight)
            best = min(best, time.perf_counter() - start)
    return best


def cpu_features() -> list[str]:
    """The processor's extensions that matter for matrix work."""
    known = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16", "sve")
    return [flag for flag in known if flag in _cpu_field("flags", "Features").split()]


def cpu_model() -> str:
    return _cpu_field("model name") or "unknown"


def _cpu_field(*names: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in names:
            return value.strip()
    return ""
