"""What the figures depend on: the machine, its libraries, and the rates it reaches."""

import os
import platform
import re
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from forge_assets.bench.roofline import Peaks
from resources.gpu.dtype_probe import cpu_features, cpu_model
from resources.gpu.hf import import_transformers

if TYPE_CHECKING:
    import torch

_LIBRARIES = ("torch", "transformers", "vllm", "dagster")
_CPU_BYTES, _GPU_BYTES = 2**30, 2**32
"""Far more than any cache holds."""
_CPU_SIDE, _GPU_SIDE = 2048, 8192
_ROUNDS = 5


def describe_machine() -> dict[str, Any]:
    """Processor, GPU and versions; None for what is not there."""
    import_transformers()
    torch = sys.modules["torch"]
    return {
        "cpu": cpu_model(),
        "features": cpu_features(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        **{library: installed_version(library) for library in _LIBRARIES},
    }


def record_name(machine: dict[str, Any]) -> str:
    """``cpu-THREADS`` or ``gpu-NAME``: the name of the machine's files."""
    if machine["gpu"] is None:
        return f"cpu-{machine['threads']}"
    return f"gpu-{gpu_name(machine['gpu'])}"


def gpu_name(device: str) -> str:
    """'NVIDIA H100 80GB HBM3' -> 'h100'."""
    model = re.split(r" \d+ ?GB", device.removeprefix("NVIDIA "))[0]
    return re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")


def installed_version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def measure_peaks(device: "torch.device", dtype: str) -> Peaks:
    """What the device reaches in the best of several rounds."""
    import torch

    with torch.inference_mode():
        return Peaks(_bandwidth(device), _flops(device, dtype))


def _bandwidth(device: "torch.device") -> float:
    """Bytes a second of a large tensor, read or copied, whichever goes faster."""
    import torch

    size = _CPU_BYTES if device.type == "cpu" else _GPU_BYTES
    values = torch.ones(size // 4, dtype=torch.float32, device=device)
    target = torch.empty_like(values)
    read = size / _best(values.sum, device)
    return max(read, 2 * size / _best(lambda: target.copy_(values), device))


def _flops(device: "torch.device", dtype: str) -> float:
    """FLOPs a second of two large matrices multiplied."""
    import torch

    side = _CPU_SIDE if device.type == "cpu" else _GPU_SIDE
    # Random numbers: a GPU multiplies zeros and ones faster, since they cost it less power.
    left, right = (
        torch.randn((side, side), device=device).to(getattr(torch, dtype)) for _ in range(2)
    )
    return 2 * side**3 / _best(lambda: left @ right, device)


def _best(work: Callable[[], object], device: "torch.device") -> float:
    """Seconds of the fastest round, after one to warm up."""
    import torch

    found = []
    for _ in range(_ROUNDS + 1):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(time.perf_counter() - started)
    return min(found[1:])
