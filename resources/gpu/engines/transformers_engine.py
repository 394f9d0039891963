"""The engine that needs nothing but torch and transformers: static or continuous batches."""

import gc
import itertools
import logging
import sys
import time
import uuid
from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from resources.errors import ConfigurationError, InfrastructureError
from resources.gpu.batching import BatchPlan, Row, plan_batches
from resources.gpu.dtype_probe import DtypeChoice, choose_device, choose_dtype
from resources.gpu.engines.arena_model import ArenaModel, arena_slots
from resources.gpu.engines.arena_probe import arena_kernel
from resources.gpu.engines.base import Completion, EngineError, GenerationRequest
from resources.gpu.engines.continuous_batch import ContinuousBatch
from resources.gpu.engines.failures import failed
from resources.gpu.engines.faults import classify, from_the_device
from resources.gpu.engines.kv_arena import KvArena
from resources.gpu.engines.live_row import LoadedModel, RowEnd
from resources.gpu.engines.loading import SHAREABLE_LAYERS, end_tokens, layer_types, load_model
from resources.gpu.engines.prompt_encoder import PromptEncoder
from resources.gpu.engines.static_batch import StaticBatch
from resources.gpu.grammar import GrammarCompiler, grammar_key
from resources.gpu.memory_need import (
    BATCH_TOKENS,
    CONTINUOUS_ROWS,
    CPU_PREFILL,
    GPU_PREFILL,
    STATIC_ROWS,
    host_has_room,
)
from resources.gpu.model_config import ModelConfig
from resources.gpu.weights import WeightsInfo
from resources.host_memory import own_memory
from resources.interaction import ErrorClass

if TYPE_CHECKING:
    import torch

_log = logging.getLogger(__name__)


class TransformersEngine:
    """One model in memory. ``check`` may be called from any thread, ``generate`` from one at a time."""

    def __init__(
        self,
        config: ModelConfig,
        weights: WeightsInfo,
        model_key: str = "?",
        on_host: bool = False,
    ) -> None:
        """Load the weights; ``on_host``: as if parked, ``resume`` then makes the engine ready.

        Raises ConfigurationError when the model cannot run here.
        """
        self.device = choose_device(config.device)
        self._dtype = choose_dtype(config.dtype, self.device)
        self.weights = weights
        self._config, self._model_key = config, model_key
        model, self.tokenizer = load_model(weights, self._dtype, model_key)
        self._share = layer_types(model.config, model_key) <= SHAREABLE_LAYERS
        vocabulary = model.get_input_embeddings().weight.shape[0]
        context = min(filter(None, (weights.context_length, config.max_context)), default=0)
        on_cpu = self.device.type == "cpu"
        self.max_batch = config.max_batch or STATIC_ROWS
        self._token_budget = config.max_batch_tokens or BATCH_TOKENS
        self._end_tokens = end_tokens(model, self.tokenizer)
        self._grammars = GrammarCompiler(
            self.tokenizer, weights.sha256, vocabulary, self._end_tokens
        )
        self._loaded: LoadedModel | None = LoadedModel(
            model=model,
            tokenizer=self.tokenizer,
            device=self.device,
            layers=model.config.get_text_config().num_hidden_layers,
            end_tokens=frozenset(self._end_tokens),
            grammars=self._grammars,
            prefill_tokens=CPU_PREFILL if on_cpu else GPU_PREFILL,
        )
        self._prompts = PromptEncoder(self.tokenizer, vocabulary, context, self._grammars)
        self._continuous: bool | None = None
        self._kernel: str | None = None
        self._arena_model: ArenaModel | None = None
        self.workspace_seen: int | None = None
        if on_host:
            self._pin()
        else:
            self.resume()
        self._name = f"{model_key}-{uuid.uuid4().hex[:8]}"
        self._batch_numbers = itertools.count(1)

    def _settle(self) -> None:
        """How batches are made, found out once the weights are on the device."""
        self._continuous = self._may_be_continuous()
        if self._continuous:
            self.max_batch = self._config.max_batch or CONTINUOUS_ROWS
            self._prompts.limit(self._slots())
        elif self.device.type == "cuda" and self._config.max_batch_tokens is None:
            # Half of what is free: rows that leave are copied out of the way. A step costs the host
            # the same for few rows as for many.
            self._token_budget = max(BATCH_TOKENS, self._slots() // 2)

    def _may_be_continuous(self) -> bool:
        """Whether rows come and go one by one. The GPU's kernel has no float32 and no windows."""
        config = self._config
        asked = config.batching == "continuous"
        if not asked and (config.batching == "static" or self.device.type == "cpu"):
            return False
        fits = self._share and (self.device.type == "cpu" or self.dtype.name != "float32")
        self._kernel = arena_kernel(self.model, self.device) if fits else None
        if asked and self._kernel is None:
            raise ConfigurationError(
                f"models.{self._model_key}.batching: continuous needs bfloat16 or float16 on a GPU of this"
                " decade and a model with plain attention, without sliding windows; remove it or write"
                " static."
            )
        return self._kernel is not None

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
            assert self._kernel is not None
            self._arena_model = ArenaModel(self.model, arena, self.max_batch, prefill, self._kernel)
        return self._arena_model

    @property
    def model(self) -> Any:
        """The transformers model, for comparisons and measurements."""
        if self._loaded is None:
            raise RuntimeError("the engine is closed")
        return self._loaded.model

    @property
    def dtype(self) -> DtypeChoice:
        return self._dtype

    @property
    def memory_bytes(self) -> int:
        """Of the parameters."""
        return sum(parameter.nbytes for parameter in self.model.parameters())

    def encode(self, prompt: str, system: str | None) -> tuple[int, ...]:
        """The prompt's tokens, chat template included where the tokenizer has one."""
        return self._prompts.encode(prompt, system)

    def check(self, request: GenerationRequest) -> EngineError | None:
        """Why the request cannot run, or None."""
        return self._prompts.check(request)

    def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[Completion]:
        """Yield one completion per request, each as it ends; see ``Engine``."""
        rows = []
        for index, request in enumerate(requests):
            error = self.check(request)
            if error is not None:
                yield failed(request, error)
                continue
            rows.append(
                Row(
                    index,
                    self.encode(request.prompt, request.system),
                    request.max_new_tokens,
                    request.expected_tokens,
                )
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
        before = 0
        batch = f"{self._name}-{next(self._batch_numbers)}"
        left = {row.index: row for row in plan.rows}
        failure: EngineError | None = None
        try:
            live = self._batch(plan, requests)
            before = self._allocated(reset=True)
            for end in live.run():
                del left[end.row.index]
                request = requests[end.row.index]
                if end.fault is None:
                    yield self._completion(end, plan, request, batch, start)
                else:
                    yield self._faulty(end, plan, request, batch, start)
        except Exception as error:
            if from_the_device(error) and not self._still_works():
                raise InfrastructureError(
                    f"the device {self.device} has failed ({classify(error).message}); everything"
                    " committed is kept, run the same command again"
                ) from error
            failure = classify(error)
        if failure is None:
            self._learn_memory(before)
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
        yield failed(
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

    def _allocated(self, reset: bool = False) -> int:
        """Bytes: the most on the device since the last reset; of this process on a CPU."""
        if self.device.type != "cuda":
            return own_memory()
        import torch

        if reset:
            torch.cuda.reset_peak_memory_stats(self.device)
        return torch.cuda.max_memory_allocated(self.device)

    def _learn_memory(self, before: int) -> None:
        """Of static batches: continuous ones work in what is left, however much that is."""
        if self._continuous:
            return
        used = self._allocated() - before
        if used > 0:
            self.workspace_seen = max(used, self.workspace_seen or 0)

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
        return failed(
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
            "attention": self._attention(),
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

    def _attention(self) -> str:
        if self._continuous:
            return f"arena, {self._kernel}"
        return str(self.model.config._attn_implementation)

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
        if self.device.type != "cuda" or not host_has_room(self.memory_bytes):
            return False
        self.trim()
        self._pin()
        self._release_memory()
        return True

    def _pin(self) -> None:
        for parameter in self._tensors():
            parameter.data = parameter.data.cpu().pin_memory()

    def resume(self) -> None:
        for parameter in self._tensors():
            parameter.data = parameter.data.to(self.device, non_blocking=True)
        if self._continuous is None:
            self._settle()

    def _tensors(self) -> "Iterator[torch.Tensor]":
        """Parameters and buffers; one that two layers share comes once."""
        return itertools.chain(self.model.parameters(), self.model.buffers())

    def close(self) -> None:
        """Free the model's memory."""
        self._loaded = self._arena_model = None
        self._release_memory()
