"""What batches gain on a GPU: the same interactions by `generate` one at a time, and by our engine.

    python -m forge_assets.bench.gpu 8b

Random weights, forced lengths (see random_model). Start-up is counted from weights in memory. Needs
torch, transformers, pydantic, filelock and platformdirs, no Dagster and no database; the GPU's
utilisation is read where pynvml is installed.
"""

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from forge_assets.bench.figures import PROJECTED_ROWS
from forge_assets.bench.machine import describe_machine, gpu_name, measure_peaks
from forge_assets.bench.random_model import SHAPES, Job, random_model, workload
from forge_assets.bench.random_runs import run_continuous, run_sequential, run_static
from resources.gpu.engines.arena_attention import kernels

_SEQUENTIAL_ROWS, _STATIC_ROWS = 12, 64


def measure(shape: str, device: str, jobs: list[Job]) -> dict[str, Any]:
    """All contestants over one model; the first two over the first of the jobs, projected."""
    import torch

    machine = describe_machine()
    peaks = measure_peaks(torch.device(device), "bfloat16")
    model = random_model(shape, device)
    figures = [
        run_sequential(model, jobs[:_SEQUENTIAL_ROWS], peaks),
        run_static(model, jobs[:_STATIC_ROWS], peaks),
        *(run_continuous(model, jobs, peaks, kernel) for kernel in kernels(device == "cuda")),
    ]
    return {
        "machine": machine,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "shape": shape,
        "interactions": len(jobs),
        "prompt_tokens": sum(len(job.tokens) for job in jobs),
        "output_tokens": sum(job.output_tokens for job in jobs),
        "bytes_per_second": peaks.bandwidth,
        "flops_per_second": peaks.flops,
        "contestants": [one.as_json(figures[0]) for one in figures],
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30,
    }


def write(result: dict[str, Any], folder: Path, kind: str) -> None:
    """``gpu-KIND-NAME.json``, and the same on standard output."""
    text = json.dumps(result, indent=2)
    print(text, flush=True)  # noqa: T201
    folder.mkdir(exist_ok=True)
    (folder / f"gpu-{kind}-{gpu_name(result['machine']['gpu'])}.json").write_text(text + "\n")


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("--output", type=Path, default=Path("bench"), help="folder of the JSON")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("no GPU on this machine")
    write(
        measure(arguments.shape, "cuda", workload(PROJECTED_ROWS)),
        arguments.output,
        arguments.shape,
    )


if __name__ == "__main__":
    main()
