"""The engine that needs nothing but torch and transformers: static batches over the model's forward."""

import gc
import itertools
import logging
import sys
import time
import uuid
from collections.abc import Generator, Iterator, Sequence
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any

from resources.errors import ConfigurationError
from resources.gpu.batching import BatchPlan, Row, plan_batches
from resources.gpu.dtype_probe import DtypeChoice, choose_device, choose_dtype
from resources.gpu.engines.arena_model import ArenaModel, arena_slots
from resources.gpu.engines.arena_probe import arena_computes
from resources.gpu.engines.base import Completion, EngineError, GenerationRequest
from resources.gpu.engines.continuous_batch import ContinuousBatch
from resources.gpu.engines.control_marks import ControlMarks, chat
from resources.gpu.engines.kv_arena import KvArena
from resources.gpu.engines.live_row import LoadedModel, RowEnd
from resources.gpu.engines.loading import SHAREABLE_LAYERS, end_tokens, layer_types, load_model
from resources.gpu.engines.static_batch import StaticBatch
from resources.gpu.grammar import GrammarCompiler, GrammarError, grammar_key
from resources.gpu.model_config import ModelConfig
from resources.gpu.weights import WeightsInfo
from resources.interaction import ErrorClass
from resources.machine_reading import memory

if TYPE_CHECKING:
    import torch

_log = logging.getLogger(__name__)
_CPU_BATCH, _GPU_BATCH = 64, 64
_PARKED_SHARE = 0.5
"""Of the host's free memory: what one model that is not needed now may take."""
_SEATS = 512
"""Rows of a continuous batch at the same time."""
_CPU_PREFILL, _GPU_PREFILL = 512, 16384


class TransformersEngine:
    """One model in memory. ``check`` may be called from any thread, ``generate`` from one at a time."""

    def __init__(self, config: ModelConfig, weights: WeightsInfo, model_key: str = "?") -> None:
        """Load the weights. Raises ConfigurationError when the model cannot run here."""
        self.device = choose_device(config.device)
        self.dtype: DtypeChoice = choose_dtype(config.dtype, self.device)
        self.weights = weights
        model, self.tokenizer = load_model(weights, self.dtype, self.device, model_key)
        self._share = layer_types(model.config, model_key) <= SHAREABLE_LAYERS
        self._vocabulary = model.get_input_embeddings().weight.shape[0]
        self._context = min(filter(None, (weights.context_length, config.max_context)), default=0)
        on_cpu = self.device.type == "cpu"
        self.max_batch = config.max_batch or (_CPU_BATCH if on_cpu else _GPU_BATCH)
        self._token_budget = config.max_batch_tokens
        self._end_tokens = end_tokens(model, self.tokenizer)
        self._grammars = GrammarCompiler(
            self.tokenizer, weights.sha256, self._vocabulary, self._end_tokens
        )
        self._loaded: LoadedModel | None = LoadedModel(
            model=model,
            tokenizer=self.tokenizer,
            device=self.device,
            layers=model.config.get_text_config().num_hidden_layers,
            end_tokens=frozenset(self._end_tokens),
            grammars=self._grammars,
            prefill_tokens=_CPU_PREFILL if on_cpu else _GPU_PREFILL,
        )
        self._continuous = self._may_be_continuous(config, model_key)
        self._arena_model: ArenaModel | None = None
        if self._continuous:
            self.max_batch = config.max_batch or _SEATS
            self._context = min(self._context or sys.maxsize, self._slots())
        self._name = f"{model_key}-{uuid.uuid4().hex[:8]}"
        self._batch_numbers = itertools.count(1)
        self._tokenizer_lock = Lock()
        self._marks = ControlMarks(self.tokenizer)
        self._encode = lru_cache(maxsize=4096)(self._tokenize)

    def _may_be_continuous(self, config: ModelConfig, model_key: str) -> bool:
        """Whether rows come and go one by one. The GPU's kernel has no float32 and no windows."""
        asked = config.batching == "continuous"
        if not asked and (config.batching == "static" or self.device.type == "cpu"):
            return False
        fits = self._share and (self.device.type == "cpu" or self.dtype.name != "float32")
        fits = fits and arena_computes(self.model, self.device)
        if asked and not fits:
            raise ConfigurationError(
                f"models.{model_key}.batching: continuous needs bfloat16 or float16 on a GPU of this"
                " decade and a model with plain attention, without sliding windows; remove it or write"
                " static."
            )
        return fits

    def _slots(self) -> int:
        """Of the arena: what the device has room for, on a CPU what the configuration names."""
        if self.device.type != "cuda" or self._loaded is None:
            return self._token_budget
        return arena_slots(self.model, self.device, self._loaded.prefill_tokens, self.max_batch)

    def _arena(self) -> ArenaModel:
        """Made when first needed: it takes nearly all the memory that the models leave."""
        assert self._loaded is not None
        if self._arena_model is None:
            arena = KvArena(self.model, self._slots(), self.device)
            prefill = self._loaded.prefill_tokens
            self._arena_model = ArenaModel(self.model, arena, self.max_batch, prefill)
        return self._arena_model

    @property
    def model(self) -> Any:
        """The transformers model, for comparisons and measurements."""
        if self._loaded is None:
            raise RuntimeError("the engine is closed")
        return self._loaded.model

    @property
    def memory_bytes(self) -> int:
        """Of the parameters."""
        return sum(parameter.nbytes for parameter in self.model.parameters())

    def encode(self, prompt: str, system: str | None) -> tuple[int, ...]:
        """The prompt's tokens, chat template included where the tokenizer has one."""
        return self._encode(prompt, system)

    def _tokenize(self, prompt: str, system: str | None) -> tuple[int, ...]:
        with self._tokenizer_lock:
            guard = self._marks.found_in(prompt) or self._marks.found_in(system or "")
            if self.tokenizer.chat_template is None:
                text = f"{system}\n\n{prompt}" if system else prompt
                return tuple(self.tokenizer(text, split_special_tokens=guard)["input_ids"])
            if guard:
                return self._marks.encode_chat(prompt, system)
            encoded = self.tokenizer.apply_chat_template(
                chat(prompt, system), add_generation_prompt=True, return_dict=True
            )
            return tuple(encoded["input_ids"])

    def check(self, request: GenerationRequest) -> EngineError | None:
        """Why the request cannot run, or None."""
        if not request.prompt.strip():
            return EngineError(ErrorClass.TEMPLATE, "the prompt is empty")
        if request.max_new_tokens < 1:
            return EngineError(ErrorClass.ENGINE, f"max_new_tokens is {request.max_new_tokens}")
        tokens = self.encode(request.prompt, request.system)
        needed = len(tokens) + request.max_new_tokens
        if self._context and needed > self._context:
            return EngineError(
                ErrorClass.PROMPT_TOO_LONG,
                f"{len(tokens)} prompt tokens and {request.max_new_tokens} new ones exceed"
                f" the context of {self._context}",
            )
        if max(tokens) >= self._vocabulary:
            return EngineError(
                ErrorClass.POISON,
                f"token {max(tokens)} is outside the vocabulary of {self._vocabulary}",
            )
        key = grammar_key(request)
        if key is not None:
            try:
                self._grammars.compile(key)
            except GrammarError as error:
                return EngineError(ErrorClass.ENGINE, str(error))
        return None

    def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[Completion]:
        """Yield one completion per request, each as it ends; see ``Engine``."""
        rows = []
        for index, request in enumerate(requests):
            error = self.check(request)
            if error is not None:
                yield _failure(request, error, 0, 0.0, {})
                continue
            rows.append(
                Row(index, self.encode(request.prompt, request.system), request.max_new_tokens)
            )
        waiting = self._plan(rows)[::-1]
        while waiting:
            plan = waiting.pop()
            if not self._continuous and len(plan.rows) > self.max_batch:
                waiting.extend(self._plan(plan.rows)[::-1])
            else:
                left = yield from self._run(plan, requests)
                waiting.extend(left[::-1])

    def _plan(self, rows: Sequence[Row]) -> list[BatchPlan]:
        if self._continuous:
            return plan_batches(rows, max(1, len(rows)), sys.maxsize)
        return plan_batches(rows, self.max_batch, self._token_budget, self._share)

    def _run(
        self, plan: BatchPlan, requests: Sequence[GenerationRequest]
    ) -> Generator[Completion, None, list[BatchPlan]]:
        """Run one batch; return what must run again after a failure.

        Out of memory halves the batch and lowers ``max_batch`` for good. Any other failure splits
        the rows that are left until the one that causes it is alone.
        """
        if self._loaded is None:
            raise RuntimeError("the engine is closed")
        start = time.perf_counter()
        batch = f"{self._name}-{next(self._batch_numbers)}"
        left = {row.index: row for row in plan.rows}
        failure: EngineError | None = None
        try:
            for end in self._batch(plan, requests).run():
                del left[end.row.index]
                request = requests[end.row.index]
                if end.fault is None:
                    yield self._completion(end, plan, request, batch, start)
                else:
                    yield self._faulty(end, plan, request, batch, start)
        except Exception as error:
            failure = _classify(error)
        if failure is None:
            return []
        _log.warning("batch %s of %d rows failed: %s", batch, len(plan.rows), failure.message)
        self._release_memory()
        if failure.error_class is ErrorClass.OOM and len(plan.rows) > 1 and self._shrink(plan):
            return self._plan(list(left.values()))
        if len(plan.rows) > 1:
            rows = list(left.values())
            middle = len(rows) // 2
            return [
                plan for half in (rows[:middle], rows[middle:]) if half for plan in self._plan(half)
            ]
        if failure.error_class is not ErrorClass.OOM and self._still_works():
            failure = EngineError(ErrorClass.POISON, failure.message)
        request = requests[plan.rows[0].index]
        seconds = time.perf_counter() - start
        yield _failure(
            request,
            failure,
            len(plan.rows[0].tokens),
            seconds,
            self._provenance(plan, request, batch),
        )
        return []

    def _batch(
        self, plan: BatchPlan, requests: Sequence[GenerationRequest]
    ) -> StaticBatch | ContinuousBatch:
        assert self._loaded is not None
        if self._continuous:
            return ContinuousBatch(self._loaded, plan, requests, self._arena())
        return StaticBatch(self._loaded, plan, requests)

    def _shrink(self, plan: BatchPlan) -> bool:
        """Whether the same work can be done with less memory at once."""
        if self._continuous:
            return self._arena_model is not None and self._arena_model.shrink()
        self.max_batch = min(self.max_batch, len(plan.rows) // 2)
        return True

    def _still_works(self) -> bool:
        """Whether the engine can do a harmless forward pass: then the request was the cause."""
        import torch

        try:
            with torch.inference_mode():
                token = torch.tensor([[min(self._end_tokens)]], device=self.device)
                return bool(self.model(input_ids=token, use_cache=False).logits.isfinite().all())
        except Exception:
            return False

    def _completion(
        self, end: RowEnd, plan: BatchPlan, request: GenerationRequest, batch: str, start: float
    ) -> Completion:
        return Completion(
            request_id=request.request_id,
            text=end.text,
            finish_reason=end.finish_reason,
            prompt_tokens=len(end.row.tokens),
            output_tokens=end.output_tokens,
            seconds=time.perf_counter() - start,
            provenance=self._provenance(plan, request, batch),
        )

    def _faulty(
        self, end: RowEnd, plan: BatchPlan, request: GenerationRequest, batch: str, start: float
    ) -> Completion:
        return _failure(
            request,
            EngineError(ErrorClass.ENGINE, end.fault or ""),
            len(end.row.tokens),
            time.perf_counter() - start,
            self._provenance(plan, request, batch),
        )

    def _provenance(
        self, plan: BatchPlan, request: GenerationRequest, batch: str
    ) -> dict[str, Any]:
        return {
            "engine": f"transformers-{'continuous' if self._continuous else 'static'}",
            "attention": self.model.config._attn_implementation,
            "dtype": self.dtype.name,
            "device": str(self.device),
            "model_sha256": self.weights.sha256,
            "batch_id": batch,
            "batch_size": len(plan.rows),
            "shared_prefix_tokens": max(group.shared for group in plan.groups),
            "seed": request.seed,
            "temperature": request.temperature,
            "grammar": (grammar_key(request) or "none").partition(":")[0],
        }

    def _release_memory(self) -> None:
        gc.collect()
        if self.device.type == "cuda":
            import torch

            torch.cuda.empty_cache()

    def trim(self) -> None:
        """Give back the memory for keys and values."""
        self._arena_model = None
        self._release_memory()

    def park(self) -> bool:
        """Page-locked, so that the way back is as fast as the link. A CPU's model is there already."""
        if self.device.type != "cuda" or self.memory_bytes > _PARKED_SHARE * memory().available:
            return False
        self.trim()
        for parameter in self._tensors():
            parameter.data = parameter.data.cpu().pin_memory()
        self._release_memory()
        return True

    def resume(self) -> None:
        for parameter in self._tensors():
            parameter.data = parameter.data.to(self.device, non_blocking=True)

    def _tensors(self) -> "Iterator[torch.Tensor]":
        """Parameters and buffers; one that two layers share comes once."""
        return itertools.chain(self.model.parameters(), self.model.buffers())

    def close(self) -> None:
        """Free the model's memory."""
        self._loaded = self._arena_model = None
        self._release_memory()


def _classify(error: Exception) -> EngineError:
    """Out of memory, or a failure of the engine; the message is the error's first line."""
    import torch

    text = str(error)
    memory = (
        isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in text
    )
    first = text.strip().splitlines()[0] if text.strip() else ""
    message = f"{type(error).__name__}: {first}"[:500]
    return EngineError(ErrorClass.OOM if memory else ErrorClass.ENGINE, message)


def _failure(
    request: GenerationRequest,
    error: EngineError,
    prompt_tokens: int,
    seconds: float,
    provenance: dict[str, Any],
) -> Completion:
    return Completion(
        request_id=request.request_id,
        text="",
        finish_reason="error",
        prompt_tokens=prompt_tokens,
        output_tokens=0,
        seconds=seconds,
        error=error,
        provenance=provenance,
    )
