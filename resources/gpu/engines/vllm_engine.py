"""vLLM's offline engine over the converted weights, in a process of its own."""

import itertools
import json
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from resources.errors import ConfigurationError
from resources.gpu.dtype_probe import DtypeChoice, choose_device, choose_dtype
from resources.gpu.engines.base import Completion, Engine, EngineError, GenerationRequest
from resources.gpu.engines.child_engine import ChildEngine
from resources.gpu.engines.child_protocol import Opening
from resources.gpu.engines.failures import failed
from resources.gpu.engines.opening import require_engine
from resources.gpu.engines.prompt_encoder import PromptEncoder
from resources.gpu.grammar import GrammarCompiler, grammar_key
from resources.gpu.hf import quiet_transformers
from resources.gpu.memory_need import host_has_room
from resources.gpu.model_config import ModelConfig
from resources.gpu.weights import WeightsInfo, first_line
from resources.interaction import ErrorClass

_SEATS = 512
"""Rows at the same time."""
_LONGEST_STEP = 300.0
_UNTOUCHED = 0.08
"""Of the device's memory, left for what is not planned: as much as vLLM leaves by itself."""
_ENVIRONMENT = {
    # The process is one of its own already, which can be killed: no second one behind it.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # That sampler is compiled at first use, with a compiler that need not be there.
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}


def open_vllm(model_key: str, config: ModelConfig, weights: WeightsInfo) -> Engine:
    """Load the weights into vLLM, in a child process. Raises ConfigurationError when it cannot run."""
    field = f"models.{model_key}.engine"
    require_engine(model_key, config)
    device = choose_device(config.device)
    if device.type != "cuda":
        raise ConfigurationError(
            f"{field}: vllm needs a GPU and there is none; write transformers."
        )
    factory = f"{VllmEngine.__module__}:{VllmEngine.__name__}"
    return ChildEngine(Opening(model_key, factory, (model_key, config, weights, device.index or 0)))


class VllmEngine:
    """One model in vLLM, whose core is in this process: what fails in it fails the process."""

    def __init__(
        self, model_key: str, config: ModelConfig, weights: WeightsInfo, device: int
    ) -> None:
        """Load the weights. Raises ConfigurationError when vLLM refuses the model or the device."""
        # vLLM takes the first device that it sees. CUDA looks here once, when torch first asks it.
        os.environ["CUDA_VISIBLE_DEVICES"] = _visible(device)
        self._device = f"cuda:{device}"
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        import torch

        self._dtype = choose_dtype(config.dtype, torch.device("cuda", 0))
        self._weights = weights
        self.max_batch = config.max_batch or _SEATS
        context = min(filter(None, (weights.context_length, config.max_context)), default=0)
        self._llm = self._load(model_key, context)
        self._core = self._llm.llm_engine
        self.memory_bytes = int(self._llm.apply_model(_parameter_bytes)[0])
        self._attention = str(self._llm.apply_model(_attention)[0])
        # Not vLLM's own: ``check`` uses it while vLLM makes texts of tokens.
        with quiet_transformers() as transformers:
            tokenizer = transformers.AutoTokenizer.from_pretrained(weights.path)
        settings = self._core.model_config
        vocabulary = settings.get_vocab_size()
        grammars = GrammarCompiler(tokenizer, weights.sha256, vocabulary, [tokenizer.eos_token_id])
        self._prompts = PromptEncoder(tokenizer, vocabulary, settings.max_model_len, grammars)
        self._name = f"{model_key}-{uuid.uuid4().hex[:8]}"
        self._batch_numbers = itertools.count(1)
        self.steps = 0
        """Ended so far."""
        self.longest_step = _LONGEST_STEP
        """Seconds; a longer one does not end."""

    def _load(self, model_key: str, context: int) -> Any:
        import vllm
        from vllm.exceptions import VLLMValidationError

        self._version = vllm.__version__
        try:
            return vllm.LLM(
                model=str(self._weights.path),
                dtype=self._dtype.name,
                max_model_len=context or None,
                max_num_seqs=self.max_batch,
                gpu_memory_utilization=_share(),
                enable_prefix_caching=True,
                enable_sleep_mode=True,
                structured_outputs_config={"backend": "xgrammar", "disable_any_whitespace": True},
                disable_log_stats=True,
                use_tqdm_on_load=False,
            )
        except (ValueError, VLLMValidationError) as error:
            raise ConfigurationError(
                f"models.{model_key}.engine: vllm cannot load {self._weights.source}"
                f" ({self._weights.architecture}): {_reason(error)}; write transformers."
            ) from error

    @property
    def dtype(self) -> DtypeChoice:
        return self._dtype

    @property
    def workspace_seen(self) -> int | None:
        """Not told: it plans for all the memory that was free."""
        return None

    def check(self, request: GenerationRequest) -> EngineError | None:
        """Why the request cannot run, or None."""
        return self._prompts.check(request)

    def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[Completion]:
        """Yield one completion per request, each as it ends; see ``Engine``.

        An exception of vLLM is not caught: its core cannot be used after one.
        """
        start = time.perf_counter()
        batch = f"{self._name}-{next(self._batch_numbers)}"
        rows: dict[str, GenerationRequest] = {}
        try:
            for request in requests:
                name = f"{batch}-{request.request_id}"
                error = self.check(request) or self._add(name, request)
                if error is None:
                    rows[name] = request
                else:
                    yield failed(request, error)
            size = len(rows)
            while rows:
                outputs = self._core.step()
                self.steps += 1
                for output in outputs:
                    if output.finished and output.request_id in rows:
                        request = rows.pop(output.request_id)
                        provenance = self._provenance(request, output, batch, size)
                        yield _completion(request, output, provenance, start)
                if rows and not self._core.has_unfinished_requests():
                    raise RuntimeError(f"vllm lost {len(rows)} requests")
        finally:
            self._core.abort_request(list(rows))

    def _add(self, name: str, request: GenerationRequest) -> EngineError | None:
        """Hand a row over; what vLLM says against its parameters or its grammar is returned."""
        from vllm.exceptions import VLLMValidationError

        tokens = self._prompts.encode(request.prompt, request.system)
        prompt = {"type": "token", "prompt_token_ids": list(tokens)}
        try:
            self._core.add_request(name, prompt, _sampling(request))
        except (ValueError, VLLMValidationError) as error:
            return EngineError(ErrorClass.ENGINE, f"vllm: {first_line(error)}")
        return None

    def _provenance(
        self, request: GenerationRequest, output: Any, batch: str, size: int
    ) -> dict[str, Any]:
        return {
            "engine": "vllm",
            "vllm": self._version,
            "attention": self._attention,
            "dtype": self.dtype.name,
            "device": self._device,
            "model_sha256": self._weights.sha256,
            "batch_id": batch,
            "batch_size": size,
            "shared_prefix_tokens": output.num_cached_tokens or 0,
            "seed": request.seed,
            "temperature": request.temperature,
            "grammar": (grammar_key(request) or "none").partition(":")[0],
        }

    def trim(self) -> None:
        """Nothing: vLLM gives back the memory for keys and values only together with the weights'."""

    def park(self) -> bool:
        """Sleep: the weights go to the host's memory, keys and values are dropped."""
        if not host_has_room(self.memory_bytes):
            return False
        self._llm.sleep(level=1)
        return True

    def resume(self) -> None:
        """Wake up. Raises what vLLM raises when its memory on the device is taken by now."""
        if self._core.is_sleeping():
            self._llm.wake_up()

    def close(self) -> None:
        """Nothing: the memory is free when the process ends."""


def _sampling(request: GenerationRequest) -> Any:
    """The request in vLLM's words. Raises what vLLM raises for a value that it does not take."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    grammar = None
    if request.one_of is not None:
        grammar = StructuredOutputsParams(choice=list(request.one_of))
    elif request.json_schema is not None:
        grammar = StructuredOutputsParams(json=json.dumps(request.json_schema))
    return SamplingParams(
        temperature=request.temperature,
        seed=request.seed if request.temperature > 0 else None,
        top_p=request.top_p,
        top_k=request.top_k,
        repetition_penalty=request.repetition_penalty,
        stop=list(request.stop),
        max_tokens=request.max_new_tokens,
        structured_outputs=grammar,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _completion(
    request: GenerationRequest, output: Any, provenance: dict[str, Any], start: float
) -> Completion:
    row = output.outputs[0]
    seconds = time.perf_counter() - start
    tokens = len(output.prompt_token_ids)
    if row.finish_reason not in ("stop", "length"):
        error = EngineError(ErrorClass.ENGINE, f"vllm ended the row with '{row.finish_reason}'")
        return failed(request, error, tokens, seconds, provenance)
    return Completion(
        request_id=request.request_id,
        text=row.text,
        finish_reason=row.finish_reason,
        prompt_tokens=tokens,
        output_tokens=len(row.token_ids),
        seconds=seconds,
        provenance=provenance,
    )


def _reason(error: Exception) -> str:
    """What pydantic wraps says what is wrong in a later line than the first."""
    told = [line for line in str(error).splitlines() if "Value error, " in line]
    return told[0].partition("Value error, ")[2][:300].rstrip(".") if told else first_line(error)


def _visible(index: int) -> str:
    """The device of that number, as the variable names it."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[index].strip() if named else str(index)


def _share() -> float:
    """Of the device's memory, what vLLM may take: it is told a share of all, not of what is free."""
    import torch

    free, total = torch.cuda.mem_get_info(0)
    return max(0.01, float(free / total) - _UNTOUCHED)


def _parameter_bytes(model: Any) -> int:
    return sum(parameter.nbytes for parameter in model.parameters())


def _attention(model: Any) -> str:
    """What vLLM calls the attention of the model's layers."""
    kinds = {
        layer.get_attn_backend().get_name()
        for layer in model.modules()
        if hasattr(layer, "get_attn_backend")
    }
    return "+".join(sorted(kinds)) or "vllm"
