"""What the readings of a stage's runs say afterwards: peaks, and ok or warn with figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Literal

from resources.machine_limits import Limits
from resources.machine_reading import GIGABYTE, percent
from resources.store_types import ResourceSample

GPU_UTILISATION_TARGET = (60.0, 90.0)  # percent
_GROWTH_SHARE = 0.05  # of all memory, from the second to the last quarter
_FEWEST_SAMPLES = 8  # two in each quarter


@dataclass(frozen=True, slots=True)
class Judgement:
    """One judged property. ``detail`` is a sentence, ``figures`` the numbers in it."""

    name: str
    status: Literal["ok", "warn", "not_applicable"]
    detail: str
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ResourcePeaks:
    """Extremes over all readings. Memory in bytes; ``gpu_memory`` (used, total) of the fullest."""

    samples: int
    connections: int
    connections_max: int
    memory_available_least: int
    memory_total: int
    gpu_memory: tuple[int, int] | None


def peaks(samples: Sequence[ResourceSample]) -> ResourcePeaks | None:
    """None when nothing was sampled."""
    if not samples:
        return None
    busiest = max(samples, key=lambda s: s.connections_total)
    tightest = min(samples, key=lambda s: s.memory_available)
    devices = [gpu for s in samples for gpu in s.gpus]
    fullest = max(devices, key=lambda g: g["memory_used"] / g["memory_total"], default=None)
    return ResourcePeaks(
        samples=len(samples),
        connections=busiest.connections_total,
        connections_max=busiest.connections_max,
        memory_available_least=tightest.memory_available,
        memory_total=tightest.memory_total,
        gpu_memory=(fullest["memory_used"], fullest["memory_total"]) if fullest else None,
    )


def judge(samples: Sequence[ResourceSample], limits: Limits) -> list[Judgement]:
    """GPU use, connections, memory growth over the samples of one or several runs."""
    return [
        *_judge_gpus(samples),
        _judge_connections(samples, limits.max_db_connections),
        _judge_growth(samples),
    ]


def _judge_gpus(samples: Sequence[ResourceSample]) -> list[Judgement]:
    """One judgement for each device that worked at all; one without a GPU is not a GPU run."""
    readings: dict[int, list[float]] = {}
    for one in samples:
        for gpu in one.gpus:
            if gpu["utilisation"] is not None:
                readings.setdefault(gpu["index"], []).append(gpu["utilisation"])
    worked = {index: values for index, values in readings.items() if max(values) > 0}
    if not worked:
        return [Judgement("gpu utilisation", "not_applicable", "no GPU worked in these runs")]
    return [_judge_gpu(index, values) for index, values in sorted(worked.items())]


def _judge_gpu(index: int, utilisation: Sequence[float]) -> Judgement:
    low, high = GPU_UTILISATION_TARGET
    mean = fmean(utilisation)
    return Judgement(
        f"gpu {index} utilisation",
        "ok" if low <= mean <= high else "warn",
        f"mean {mean:.0f} % over {len(utilisation)} samples, target {low:.0f}-{high:.0f} %",
        {"mean_percent": mean, "samples": len(utilisation), "target_percent": [low, high]},
    )


def _judge_connections(samples: Sequence[ResourceSample], limit: float) -> Judgement:
    if not samples:
        return Judgement("db connections", "not_applicable", "no samples")
    peak = max(samples, key=lambda one: one.connections_total / one.connections_max)
    share = peak.connections_total / peak.connections_max
    return Judgement(
        "db connections",
        "ok" if share <= limit else "warn",
        f"peak {peak.connections_total} of {peak.connections_max} ({percent(share)}) "
        f"over {len(samples)} samples, limit {percent(limit)}",
        {"peak": peak.connections_total, "max": peak.connections_max, "limit": limit},
    )


def _judge_growth(samples: Sequence[ResourceSample]) -> Judgement:
    """The run that grew most; its first quarter loads models and does not count."""
    by_run: dict[str, list[ResourceSample]] = {}
    for one in samples:
        by_run.setdefault(one.run_id, []).append(one)
    grown = [_growth(run) for run in by_run.values() if len(run) >= _FEWEST_SAMPLES]
    if not grown:
        fewest = f"no run with at least {_FEWEST_SAMPLES} samples"
        return Judgement("memory growth", "not_applicable", fewest)
    growth, total, count = max(grown)
    return Judgement(
        "memory growth",
        "ok" if growth <= _GROWTH_SHARE * total else "warn",
        f"{growth / GIGABYTE:+.2f} GB in use from the second to the last quarter of the run "
        f"({count} samples), up to {percent(_GROWTH_SHARE)} of {total / GIGABYTE:.1f} GB is fine",
        {"growth_bytes": growth, "memory_total": total, "samples": count},
    )


def _growth(run: Sequence[ResourceSample]) -> tuple[float, int, int]:
    """(growth of the mean memory in use, all memory, number of samples) of a run in time order.

    Samples come at a steady interval, so quarters of their number are quarters of the time.
    """
    used = [one.memory_total - one.memory_available for one in run]
    quarter = len(used) // 4
    growth = fmean(used[-quarter:]) - fmean(used[quarter : 2 * quarter])
    return growth, run[0].memory_total, len(run)
