"""The machine's limits, and GO or NO-GO for each of them."""

from dataclasses import dataclass
from typing import Literal

from resources.gpu.devices import GpuDevice
from resources.host_memory import Memory
from resources.machine_reading import GIGABYTE, Connections, MachineSample, percent


@dataclass(frozen=True, slots=True)
class Limits:
    """Beyond these a stage does not start, and a run stops claiming. Shares of one."""

    max_gpu_memory: float = 0.95
    max_db_connections: float = 0.80
    min_available_memory_gb: float = 4.0


@dataclass(frozen=True, slots=True)
class Criterion:
    """One line of the pre-flight."""

    name: str
    status: Literal["go", "no_go", "not_applicable"]
    detail: str


def criteria(sample: MachineSample, limits: Limits, gpu_configured: bool) -> list[Criterion]:
    """Judge a reading: connections, memory, then one line for each GPU or for their absence."""
    return [
        _judge_connections(sample.connections, limits.max_db_connections),
        _judge_memory(sample.memory, limits.min_available_memory_gb),
        *_judge_gpus(sample, limits.max_gpu_memory, gpu_configured),
    ]


def _judge_connections(connections: Connections, limit: float) -> Criterion:
    detail = (
        f"{connections.total} of {connections.max} in use ({connections.active} active, "
        f"{connections.idle} idle), limit {percent(limit)}"
    )
    return Criterion("db connections", _go(connections.used_share <= limit), detail)


def _judge_memory(memory: Memory, minimum_gb: float) -> Criterion:
    detail = (
        f"{_gb(memory.available)} of {_gb(memory.total)} GB available "
        f"({percent(memory.available / memory.total)}), at least {minimum_gb:g} GB"
    )
    return Criterion("memory", _go(memory.available >= minimum_gb * GIGABYTE), detail)


def _judge_gpus(sample: MachineSample, limit: float, configured: bool) -> list[Criterion]:
    if sample.gpu_error is not None:
        if configured:
            return [Criterion("gpu", "no_go", f"configured and unreadable: {sample.gpu_error}")]
        return [Criterion("gpu", "not_applicable", f"none configured; {sample.gpu_error}")]
    if sample.gpus:
        return [_judge_gpu(gpu, limit) for gpu in sample.gpus]
    if configured:
        return [Criterion("gpu", "no_go", "configured and none found")]
    return [Criterion("gpu", "not_applicable", "none here and none configured")]


def _judge_gpu(gpu: GpuDevice, limit: float) -> Criterion:
    used_share = gpu.memory_used / gpu.memory_total
    utilisation = "unknown" if gpu.utilisation is None else f"{gpu.utilisation:.0f} %"
    detail = (
        f"{gpu.name}: {_gb(gpu.memory_used)} of {_gb(gpu.memory_total)} GB in use "
        f"({percent(used_share)}), limit {percent(limit)}; utilisation {utilisation}"
    )
    return Criterion(f"gpu {gpu.index}", _go(used_share <= limit), detail)


def _go(fine: bool) -> Literal["go", "no_go"]:
    return "go" if fine else "no_go"


def _gb(count: int) -> str:
    return f"{count / GIGABYTE:.1f}"
