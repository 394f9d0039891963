"""The ways to do a random model's work. Needs no Dagster and no database."""

import gc
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import Any

from forge_assets.bench.busy import watch
from forge_assets.bench.figures import Figures, Run
from forge_assets.bench.random_model import Job
from forge_assets.bench.roofline import ModelSize, Peaks, floor
from resources.gpu.batching import BatchPlan, Row, plan_batches
from resources.gpu.engines.arena_model import ArenaModel, arena_slots
from resources.gpu.engines.arena_probe import arena_kernel
from resources.gpu.engines.base import GenerationRequest
from resources.gpu.engines.continuous_batch import ContinuousBatch
from resources.gpu.engines.kv_arena import KvArena
from resources.gpu.engines.live_row import LoadedModel, RowEnd
from resources.gpu.engines.static_batch import StaticBatch
from resources.gpu.memory_need import BATCH_TOKENS, CONTINUOUS_ROWS, GPU_PREFILL, STATIC_ROWS

SEQUENTIAL, STATIC, CONTINUOUS = "sequential generate", "static batches", "continuous batches"
_CPU_SLOTS = 4096
"""A CPU's arena, for tests."""


def run_sequential(model: Any, jobs: Sequence[Job], peaks: Peaks) -> Figures:
    """`generate`, one prompt at a time, once, after one prompt to warm up."""
    _generate(model, jobs[0])
    run = _timed(model, jobs, lambda: _all_alone(model, jobs))
    return _figures(SEQUENTIAL, model, jobs, peaks, 0.0, [run])


def run_static(model: Any, jobs: Sequence[Job], peaks: Peaks) -> Figures:
    """Our static batches, once. Before the continuous ones, which change the model's attention."""
    run = _timed(model, jobs, lambda: _static(model, jobs))
    return _figures(STATIC, model, jobs, peaks, 0.0, [run])


def run_continuous(model: Any, jobs: Sequence[Job], peaks: Peaks, kernel: str) -> Figures:
    """Our continuous batches over all jobs, twice: the first run also records its graphs."""
    started = time.perf_counter()
    arena_model = open_arena(model, kernel)
    start_up = time.perf_counter() - started
    runs = [_timed(model, jobs, lambda: continuous(arena_model, jobs)) for _ in range(2)]
    return _figures(f"{CONTINUOUS}, {kernel}", model, jobs, peaks, start_up, runs)


def open_arena(model: Any, kernel: str | None = None) -> ArenaModel:
    """The model over all the memory that it leaves, with the fastest kernel unless one is named.

    SystemExit when its attention is another.
    """
    free_memory()
    fastest = arena_kernel(model, model.device)
    if fastest is None:
        raise SystemExit("the probe found another attention than the model's own")
    slots = _CPU_SLOTS
    if model.device.type == "cuda":
        slots = arena_slots(model, model.device, GPU_PREFILL, CONTINUOUS_ROWS)
    arena = KvArena(model, slots, model.device)
    return ArenaModel(model, arena, CONTINUOUS_ROWS, GPU_PREFILL, kernel or fastest)


def continuous(arena_model: ArenaModel, jobs: Sequence[Job]) -> int:
    """Output tokens of all jobs at once."""
    rows, requests = _rows(jobs)
    plan = plan_batches(rows, len(rows), sys.maxsize)[0]
    loaded = _loaded(arena_model.model)
    return _tokens(ContinuousBatch(loaded, plan, requests, arena_model).run())


def free_memory() -> None:
    """Of what nobody holds any more."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _static(model: Any, jobs: Sequence[Job]) -> int:
    rows, requests = _rows(jobs)
    budget = BATCH_TOKENS
    if model.device.type == "cuda":
        budget = arena_slots(model, model.device, GPU_PREFILL, STATIC_ROWS) // 2
    plans: list[BatchPlan] = plan_batches(rows, STATIC_ROWS, budget)
    loaded = _loaded(model)
    return sum(_tokens(StaticBatch(loaded, plan, requests).run()) for plan in plans)


def _rows(jobs: Sequence[Job]) -> tuple[list[Row], list[GenerationRequest]]:
    rows = [Row(n, job.tokens, job.output_tokens) for n, job in enumerate(jobs)]
    return rows, [GenerationRequest(row.index, "", row.max_new_tokens) for row in rows]


def _loaded(model: Any) -> LoadedModel:
    """No end token, no text, no cut where a random model repeats itself: the lengths are forced."""
    return LoadedModel(
        model=model,
        tokenizer=SimpleNamespace(decode=lambda tokens, skip_special_tokens: ""),
        device=model.device,
        layers=model.config.num_hidden_layers,
        end_tokens=frozenset(),
        grammars=SimpleNamespace(matcher=lambda request: None),  # type: ignore[arg-type]
        prefill_tokens=GPU_PREFILL,
        cut_loops=False,
    )


def _tokens(ends: Iterable[RowEnd]) -> int:
    return sum(end.output_tokens for end in ends)


def _all_alone(model: Any, jobs: Sequence[Job]) -> int:
    return sum(_generate(model, job) for job in jobs)


def _generate(model: Any, job: Job) -> int:
    import torch

    prompt = torch.tensor([job.tokens], device=model.device)
    with torch.inference_mode():
        found = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=job.output_tokens,
            min_new_tokens=job.output_tokens,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
    return int(found.shape[1]) - len(job.tokens)


def _timed(model: Any, jobs: Sequence[Job], work: Callable[[], int]) -> Run:
    """RuntimeError when the work did not make the tokens that it had to."""
    synchronize()
    with watch(model.device) as busy:
        started = time.perf_counter()
        made = work()
        synchronize()
        seconds = time.perf_counter() - started
    wanted = sum(job.output_tokens for job in jobs)
    if made != wanted:
        raise RuntimeError(f"{made} tokens instead of {wanted}")
    prompts = sum(len(job.tokens) for job in jobs)
    return Run(len(jobs), prompts, made, seconds, gpu_busy=busy.share)


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _figures(
    name: str,
    model: Any,
    jobs: Sequence[Job],
    peaks: Peaks,
    start_up: float,
    runs: Sequence[Run],
) -> Figures:
    prompts = [job.tokens for job in jobs]
    least = floor(ModelSize.of(model), peaks, prompts, [job.output_tokens for job in jobs])
    return Figures(name, start_up, 1, tuple(runs), least.seconds)
