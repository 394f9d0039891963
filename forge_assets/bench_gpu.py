"""What continuous batches gain on a GPU: the same interactions by `generate` one at a time, and by ours.

    python -m forge_assets.bench_gpu 8b

The model has the shape of a Llama and random weights, the lengths of the outputs are forced, and both
sides get the same tokens, so that nothing is measured but the work. Needs torch and transformers only.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from resources.gpu.batching import Row, plan_batches
from resources.gpu.engines.base import GenerationRequest
from resources.gpu.hf import import_transformers

if TYPE_CHECKING:
    from resources.gpu.engines.arena_model import ArenaModel

SHAPES = {
    "8b": (4096, 14336, 32, 128),
    "3b": (3072, 8192, 28, 128),
    "1b": (2048, 8192, 16, 64),
}
"""Width, width of the gated layer, layers, size of a head; 8 heads of keys and values, 128,256 tokens."""
INTERACTIONS = 500
SEQUENTIAL = 12
SEATS = 512
PREFILL_TOKENS = 16384
_PREFIXES, _PREFIX_TOKENS = 5, 384


@dataclass(frozen=True)
class Job:
    """One interaction: its prompt, and how many tokens it must answer with."""

    tokens: list[int]
    output_tokens: int


@dataclass(frozen=True)
class Run:
    """One way to do the work. ``first`` and ``again`` are seconds for all, in one process."""

    name: str
    interactions: int
    output_tokens: int
    first: float
    again: float | None
    start: float
    """Seconds from the model's weights in memory until the first run could begin."""

    @property
    def seconds_each(self) -> float:
        return (self.again or self.first) / self.interactions


def workload(count: int = INTERACTIONS) -> list[Job]:
    """Five shared beginnings of 384 tokens; own parts and outputs lognormal, 300 and 128 in the middle."""
    import numpy as np

    random = np.random.default_rng(7)
    shared = [random.integers(1000, 100_000, _PREFIX_TOKENS).tolist() for _ in range(_PREFIXES)]
    jobs = []
    for number in range(count):
        own = int(np.clip(random.lognormal(np.log(300), 0.6), 32, 1500))
        output = int(np.clip(random.lognormal(np.log(128), 0.7), 16, 512))
        tokens = shared[number % _PREFIXES] + random.integers(1000, 100_000, own).tolist()
        jobs.append(Job(tokens, output))
    return jobs


def random_model(shape: str, device: str) -> Any:
    """A Llama of the shape in bfloat16."""
    transformers = import_transformers()
    torch = sys.modules["torch"]
    width, gated, layers, head = SHAPES[shape]
    config = transformers.LlamaConfig(
        hidden_size=width,
        intermediate_size=gated,
        num_hidden_layers=layers,
        num_attention_heads=width // head,
        num_key_value_heads=8,
        head_dim=head,
        vocab_size=128_256,
        max_position_embeddings=8192,
        tie_word_embeddings=False,
    )
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    torch.set_default_dtype(torch.float32)
    return model.eval()


def run_sequential(model: Any, jobs: Sequence[Job]) -> Run:
    """`generate`, one prompt at a time, after one to warm up."""

    def work() -> None:
        for job in jobs:
            _generate(model, job)

    _generate(model, jobs[0])
    seconds = _timed(work)
    outputs = sum(job.output_tokens for job in jobs)
    return Run("sequential generate", len(jobs), outputs, seconds, None, 0.0)


def _generate(model: Any, job: Job) -> None:
    import torch

    prompt = torch.tensor([job.tokens], device=model.device)
    with torch.inference_mode():
        model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=job.output_tokens,
            min_new_tokens=job.output_tokens,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )


def run_continuous(model: Any, jobs: Sequence[Job]) -> Run:
    """Our engine's loop over all jobs at once, twice: the first run also records its graphs."""
    from resources.gpu.engines.arena_model import ArenaModel, arena_slots
    from resources.gpu.engines.arena_probe import arena_computes
    from resources.gpu.engines.kv_arena import KvArena

    started = time.perf_counter()
    if not arena_computes(model, model.device):
        raise SystemExit("the probe found another attention than the model's own")
    slots = arena_slots(model, model.device, PREFILL_TOKENS, SEATS)
    arena_model = ArenaModel(model, KvArena(model, slots, model.device), SEATS, PREFILL_TOKENS)
    start = time.perf_counter() - started
    outputs = 0

    def work() -> None:
        nonlocal outputs
        outputs = _continuous(arena_model, jobs)

    first, again = _timed(work), _timed(work)
    return Run("continuous", len(jobs), outputs, first, again, start)


def _continuous(model: "ArenaModel", jobs: Sequence[Job]) -> int:
    from resources.gpu.engines.continuous_batch import ContinuousBatch
    from resources.gpu.engines.live_row import LoadedModel

    # No end token, no text: the lengths are forced.
    loaded = LoadedModel(
        model=model.model,
        tokenizer=SimpleNamespace(decode=lambda tokens, skip_special_tokens: ""),
        device=model.model.device,
        layers=model.model.config.num_hidden_layers,
        end_tokens=frozenset(),
        grammars=SimpleNamespace(matcher=lambda request: None),  # type: ignore[arg-type]
        prefill_tokens=PREFILL_TOKENS,
    )
    rows = [Row(n, job.tokens, job.output_tokens) for n, job in enumerate(jobs)]
    requests = [GenerationRequest(row.index, "", row.max_new_tokens) for row in rows]
    plan = plan_batches(rows, len(rows), sys.maxsize)[0]
    return sum(end.output_tokens for end in ContinuousBatch(loaded, plan, requests, model).run())


def _timed(work: Callable[[], object]) -> float:
    import torch

    torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument(
        "--output", type=Path, default=Path("bench"), help="folder of the JSON file"
    )
    arguments = parser.parse_args()
    transformers = import_transformers()
    torch = sys.modules["torch"]
    if not torch.cuda.is_available():
        raise SystemExit("no GPU on this machine")
    jobs = workload()
    model = random_model(arguments.shape, "cuda")
    runs = [run_sequential(model, jobs[:SEQUENTIAL]), run_continuous(model, jobs)]
    sequential, ours = runs
    result = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "shape": arguments.shape,
        "interactions": len(jobs),
        "prompt_tokens": sum(len(job.tokens) for job in jobs),
        "output_tokens": sum(job.output_tokens for job in jobs),
        "runs": [{**asdict(run), "seconds_each": run.seconds_each} for run in runs],
        "times_sequential": sequential.seconds_each / ours.seconds_each,
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30,
    }
    text = json.dumps(result, indent=2)
    print(text, flush=True)  # noqa: T201
    arguments.output.mkdir(exist_ok=True)
    name = f"gpu-{arguments.shape}-{result['device'].split()[1].lower()}.json"
    (arguments.output / name).write_text(text + "\n")


if __name__ == "__main__":
    main()
