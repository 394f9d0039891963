"""The engine against a real server: `transformers serve` with the shipped model in float32."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from resources.gpu.engines.base import GenerationRequest
from resources.gpu.engines.openai_http import OpenAIHttpEngine
from resources.gpu.engines.transformers_engine import TransformersEngine
from resources.gpu.model_cache import ModelCache
from resources.gpu.model_config import ModelConfig
from tests.transformers_serve import TransformersServe

COLORS = ("red", "green", "blue", "white", "black")
REQUESTS = [
    GenerationRequest(n, f"Write one sentence about the color {color}.", 12)
    for n, color in enumerate(COLORS)
]


@pytest.fixture(scope="module")
def config(transformers_serve: TransformersServe) -> ModelConfig:
    return ModelConfig(
        source=transformers_serve.model, engine="openai_http", url=transformers_serve.url
    )


@pytest.fixture(scope="module")
def engine(config: ModelConfig) -> Iterator[OpenAIHttpEngine]:
    made = OpenAIHttpEngine(config, "far")
    yield made
    made.close()


def test_greedy_text_is_that_of_the_engine_of_this_machine(
    engine: OpenAIHttpEngine, shipped: TransformersEngine
) -> None:
    far = {row.request_id: row for row in engine.generate(REQUESTS)}
    here = {row.request_id: row for row in shipped.generate(REQUESTS)}
    assert {n: row.text for n, row in far.items()} == {n: row.text for n, row in here.items()}
    assert {n: (row.prompt_tokens, row.output_tokens) for n, row in far.items()} == {
        n: (row.prompt_tokens, row.output_tokens) for n, row in here.items()
    }
    assert {row.finish_reason for row in far.values()} == {"length"}
    assert all(row.error is None and row.seconds > 0 for row in far.values())


def test_the_system_message_reaches_the_server(
    engine: OpenAIHttpEngine, shipped: TransformersEngine
) -> None:
    requests = [
        GenerationRequest(0, "Who are you?", 8, system="You are a pirate called Jack."),
        GenerationRequest(1, "Who are you?", 8, system="You are a poet called Anna."),
    ]
    far = {row.request_id: row.text for row in engine.generate(requests)}
    assert far[0] != far[1]
    assert far == {row.request_id: row.text for row in shipped.generate(requests)}


def test_what_the_server_does_not_constrain_comes_as_it_is(engine: OpenAIHttpEngine) -> None:
    (row,) = engine.generate([GenerationRequest(0, "Yes or no?", 4, one_of=("yes", "no"))])
    assert row.error is None
    assert row.text


def test_what_the_server_refuses_is_an_error_of_the_row(engine: OpenAIHttpEngine) -> None:
    requests = [GenerationRequest(0, "Hi", 4, top_k=5), GenerationRequest(1, "Hi", 4)]
    found = {row.request_id: row for row in engine.generate(requests)}
    error = found[0].error
    assert error is not None
    assert error.message.startswith("the server answered 422: Unexpected fields in the request")
    assert found[1].error is None


def test_in_the_cache_it_takes_no_room_and_gives_none(
    config: ModelConfig, llama_folder: Path, tmp_path: Path
) -> None:
    cache = ModelCache(tmp_path, budget=1)
    engine = cache.get("far", config)
    assert cache.get("far", config) is engine
    assert [(load.model, load.tier, load.bytes) for load in cache.loads] == [("far", "server", 0)]
    assert (engine.dtype.name, engine.memory_bytes, engine.park()) == ("server", 0, False)
    here = ModelConfig(source=str(llama_folder), dtype="float32", device="cpu")
    for key in ("one", "two"):
        cache.get(key, here)
    assert cache.resident() == ["two"]
    cache.close()
    assert cache.resident() == []
