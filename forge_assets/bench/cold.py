"""A cold batch over several model sizes: 500 interactions in all, from process start to the last row.

    python -m forge_assets.bench.cold write FOLDER 8b 3b 1b
    python -m forge_assets.bench.cold run FOLDER 8b 3b 1b

``write`` makes the random models once. ``run`` reads one after the other from disk, in one process,
and frees each before the next; the files may still be in the system's memory. Linux only. Needs what
the module gpu needs.
"""

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from forge_assets.bench.figures import PROJECTED_ROWS
from forge_assets.bench.gpu import write
from forge_assets.bench.machine import describe_machine
from forge_assets.bench.random_model import (
    SHAPES,
    Job,
    read_model,
    split,
    workload,
    write_model,
)
from forge_assets.bench.random_runs import continuous, free_memory, open_arena, synchronize


@dataclass(frozen=True)
class ColdModel:
    """One model's part. ``load``, ``ready`` (probe and arena) and ``run`` are seconds."""

    shape: str
    interactions: int
    prompt_tokens: int
    output_tokens: int
    load: float
    ready: float
    run: float
    ended: float
    """Seconds from the start of the process to the last row."""


def run_cold(
    folder: Path, shapes: Sequence[str], device: str, jobs: Sequence[Job]
) -> list[ColdModel]:
    """The jobs in even parts, one a model, in order."""
    parts = split(jobs, len(shapes))
    found = []
    for shape, part in zip(shapes, parts, strict=True):
        found.append(_run_one(folder / shape, shape, device, part))
        free_memory()
    return found


def _run_one(folder: Path, shape: str, device: str, jobs: Sequence[Job]) -> ColdModel:
    times = [time.perf_counter()]
    model = read_model(folder, device)
    synchronize()
    times.append(time.perf_counter())
    arena_model = open_arena(model)
    synchronize()
    times.append(time.perf_counter())
    tokens = continuous(arena_model, jobs)
    synchronize()
    times.append(time.perf_counter())
    load, ready, run = (end - start for start, end in pairwise(times))
    prompts = sum(len(job.tokens) for job in jobs)
    return ColdModel(shape, len(jobs), prompts, tokens, load, ready, run, since_start())


def since_start() -> float:
    """Seconds since this process was started, as the system counts them."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return float(Path("/proc/uptime").read_text().split()[0]) - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("action", choices=("write", "run"))
    parser.add_argument("folder", type=Path, help="of the models, 2 bytes a parameter")
    parser.add_argument("shapes", nargs="+", choices=SHAPES)
    parser.add_argument("--output", type=Path, default=Path("bench"), help="folder of the JSON")
    arguments = parser.parse_args()
    if arguments.action == "write":
        for shape in arguments.shapes:
            write_model(shape, arguments.folder / shape, "cuda")
            free_memory()
        return
    found = run_cold(arguments.folder, arguments.shapes, "cuda", workload(PROJECTED_ROWS))
    write(_record(found), arguments.output, "cold")


def _record(found: Sequence[ColdModel]) -> dict[str, Any]:
    """The machine is described afterwards, since that takes time."""
    return {
        "machine": describe_machine(),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "interactions": sum(one.interactions for one in found),
        "output_tokens": sum(one.output_tokens for one in found),
        "models": [asdict(one) for one in found],
        "total": found[-1].ended,
    }


if __name__ == "__main__":
    main()
