"""Where the device's time goes in continuous batches, by kind of kernel.

    python -m forge_assets.bench.profile 8b

The work of forge_assets.bench.gpu under torch's profiler, after one run without it. The sum of the
kernels' seconds is what the device computed; the rest of the time it waited.
"""

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from forge_assets.bench.figures import PROJECTED_ROWS
from forge_assets.bench.gpu import write
from forge_assets.bench.machine import describe_machine
from forge_assets.bench.random_model import SHAPES, Job, random_model, workload
from forge_assets.bench.random_runs import continuous, open_arena, synchronize

_KINDS = (
    ("attention", ("flash", "fmha", "attention")),
    ("matrix products", ("gemm", "nvjet", "cutlass", "cublas", "matmul", "splitk")),
    ("norm, rotary, activation", ("norm", "rotary", "rope", "silu", "triton")),
    ("keys and values written", ("index_copy", "index_put", "scatter", "indexfunc")),
    ("choice of tokens", ("argmax", "reduce", "max")),
    ("copies", ("memcpy", "memset", "copy", "cat", "gather", "index")),
)
"""The first whose words stand in the kernel's name."""


def kind_of(kernel: str) -> str:
    name = kernel.lower()
    return next((kind for kind, words in _KINDS if any(word in name for word in words)), "other")


def by_kind(kernels: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Seconds by kind, the largest first."""
    sums: dict[str, float] = defaultdict(float)
    for name, seconds in kernels:
        sums[kind_of(name)] += seconds
    return dict(sorted(sums.items(), key=lambda item: -item[1]))


def measure(shape: str, jobs: list[Job]) -> dict[str, Any]:
    import torch
    from torch.profiler import ProfilerActivity, profile

    model = random_model(shape, "cuda")
    arena_model = open_arena(model)
    continuous(arena_model, jobs)
    synchronize()
    started = time.perf_counter()
    continuous(arena_model, jobs)
    synchronize()
    without = time.perf_counter() - started
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        started = time.perf_counter()
        continuous(arena_model, jobs)
        synchronize()
        seconds = time.perf_counter() - started
    events = [
        (event.key, event.self_device_time_total / 1e6)
        for event in found.key_averages()
        if event.device_type == torch.autograd.DeviceType.CUDA
    ]
    computing = sum(part for _, part in events)
    return {
        "machine": describe_machine(),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "shape": shape,
        "interactions": len(jobs),
        "seconds": without,
        "seconds_with_the_profiler": seconds,
        "device_seconds": computing,
        "by_kind": by_kind(events),
        "largest": dict(sorted(events, key=lambda item: -item[1])[:12]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("--output", type=Path, default=Path("bench"), help="folder of the JSON")
    arguments = parser.parse_args()
    found = measure(arguments.shape, workload(PROJECTED_ROWS))
    write(found, arguments.output, f"profile-{arguments.shape}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
