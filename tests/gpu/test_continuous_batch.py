"""Rows that come and go over one arena say what each request would say alone: in float32, exactly."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.errors import ConfigurationError
from resources.gpu.engines.base import Completion, GenerationRequest
from resources.gpu.engines.kv_arena import SpanAllocator
from resources.gpu.engines.transformers_engine import TransformersEngine
from resources.interaction import ErrorClass
from tests.gpu.conftest import alone

Tiny = Callable[..., TransformersEngine]
PROMPTS = (
    "Say in one sentence what this Python function does.\n\n{}",
    "Name the topic of this text in one word: {}",
)
TEXTS = (
    "Return the absolute value.",
    "Open a file. Raises OSError upon failure.",
    "Wait.",
    "Sort.",
)


def _requests(new: tuple[int, ...] = (12, 5, 1, 16)) -> list[GenerationRequest]:
    prompts = [prompt.format(text) for text in TEXTS for prompt in PROMPTS]
    return [
        GenerationRequest(n, prompt, new[n % len(new)])
        for n, prompt in enumerate([*prompts, "What is the capital of France?"])
    ]


def _texts(completions: list[Completion]) -> dict[int, str]:
    assert [done.error for done in completions if done.error] == []
    assert len({done.request_id for done in completions}) == len(completions)
    return {done.request_id: done.text for done in completions}


def _expected(engine: TransformersEngine, requests: list[GenerationRequest]) -> dict[int, str]:
    return {request.request_id: alone(engine, request) for request in requests}


@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"max_batch": 1},
        {"max_batch": 3},
        {"max_batch_tokens": 80},
        {"max_batch": 5, "max_batch_tokens": 130},
    ],
)
def test_every_row_says_what_it_says_alone(tiny: Tiny, limits: dict[str, int]) -> None:
    """Also where few seats or little memory make rows wait, and shared beginnings find no place."""
    engine = tiny(batching="continuous", device="cpu", **limits)
    requests = _requests()
    completions = list(engine.generate(requests))
    assert _texts(completions) == _expected(engine, requests)
    assert [done.output_tokens for done in completions if done.finish_reason == "length"]
    assert completions[0].provenance["engine"] == "transformers-continuous"
    assert completions[0].provenance["attention"] == "arena, row by row"
    assert _arena_is_empty(engine)
    assert _texts(list(engine.generate(requests[:3]))) == _expected(engine, requests[:3])


def _arena_is_empty(engine: TransformersEngine) -> bool:
    model = engine._arena_model
    assert model is not None
    return model.arena.spans.free == model.arena.spans.size and model.seated == 0


def test_a_text_that_ends_by_itself_and_one_that_is_cut(
    shipped_continuous: TransformersEngine,
) -> None:
    engine = shipped_continuous
    ends = GenerationRequest(1, "What is the capital of France? Answer with one word.", 30)
    goes_on = GenerationRequest(2, "Write a long story.", 30)
    completions = {done.request_id: done for done in engine.generate([ends, goes_on])}
    assert _texts(list(completions.values())) == _expected(engine, [ends, goes_on])
    assert completions[1].finish_reason == "stop"
    assert completions[2].finish_reason == "length"


def test_rows_with_rules_beside_plain_ones(shipped_continuous: TransformersEngine) -> None:
    """A penalty, a grammar, alternatives, a stop string and a temperature are all honoured."""
    engine = shipped_continuous
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer", "minimum": 1, "maximum": 5}},
        "required": ["a"],
        "additionalProperties": False,
    }
    plain = GenerationRequest(1, "What is the capital of France?", 12)
    penalized = GenerationRequest(2, "List three colors.", 20, repetition_penalty=1.3)
    requests = [
        plain,
        penalized,
        GenerationRequest(3, "Give a as JSON.", 20, json_schema=schema),
        GenerationRequest(4, "Yes or no?", 4, one_of=("yes", "no")),
        GenerationRequest(5, "List three colors, separated by commas.", 24, stop=(",",)),
        GenerationRequest(6, "Say a number.", 8, temperature=1.0, seed=3),
    ]
    texts = _texts(list(engine.generate(requests)))
    assert texts[1] == alone(engine, plain)
    assert texts[2] == alone(engine, penalized)
    assert texts[3].startswith('{"a": ')
    assert texts[4] in ("yes", "no")
    assert "," not in texts[5]
    assert _texts(list(engine.generate(requests[5:])))[6] == texts[6]


def test_an_abandoned_batch_gives_everything_back(tiny: Tiny) -> None:
    engine = tiny(batching="continuous", device="cpu", max_batch=4)
    requests = _requests((2, 20))
    running = engine.generate(requests)
    next(running)
    running.close()
    assert _arena_is_empty(engine)
    assert _texts(list(engine.generate(requests))) == _expected(engine, requests)


def test_completions_come_while_others_go_on(tiny: Tiny) -> None:
    engine = tiny(batching="continuous", device="cpu")
    steps: list[int] = []
    engine.model.register_forward_hook(lambda *_: steps.append(1))
    running = engine.generate([GenerationRequest(1, "short", 2), GenerationRequest(2, "long", 40)])
    assert next(running).request_id == 1
    assert len(steps) < 10
    assert [done.request_id for done in running] == [2]
    assert len(steps) > 30


def test_memory_that_another_model_needs_is_given_back(tiny: Tiny) -> None:
    engine = tiny(batching="continuous", device="cpu")
    requests = _requests()[:3]
    expected = _expected(engine, requests)
    assert engine._arena_model is None
    for _ in range(2):
        assert _texts(list(engine.generate(requests))) == expected
        assert engine._arena_model is not None
        engine.trim()
        assert engine._arena_model is None


def test_a_poisoned_row_ends_alone(tiny: Tiny) -> None:
    engine = tiny(batching="continuous", device="cpu")
    requests = _requests((3,))
    clean = _texts(list(engine.generate(requests)))
    bad = engine.encode(requests[4].prompt, None)[-8]
    others = {t for r in requests if r.request_id != 4 for t in engine.encode(r.prompt, None)}
    assert bad not in others

    def fail(module: object, args: tuple[object, ...]) -> None:
        if bool((args[0] == bad).any()):  # type: ignore[attr-defined]
            raise IndexError("index out of range in self")

    engine.model.get_input_embeddings().register_forward_pre_hook(fail)
    completions = list(engine.generate(requests))
    errors = {done.request_id: done.error.error_class for done in completions if done.error}
    assert errors == {4: ErrorClass.POISON}
    assert {d.request_id: d.text for d in completions if not d.error} == {
        n: text for n, text in clean.items() if n != 4
    }


def test_out_of_memory_works_on_with_less(tiny: Tiny) -> None:
    engine = tiny(batching="continuous", device="cpu")
    requests = _requests((3,))
    expected = _expected(engine, requests)

    def fail(module: object, args: tuple[object, ...]) -> None:
        if args[0].numel() > 60:  # type: ignore[attr-defined]
            raise MemoryError("no memory")

    engine.model.get_input_embeddings().register_forward_pre_hook(fail)
    assert _texts(list(engine.generate(requests))) == expected


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("MistralConfig", {"sliding_window": 16}),
        # Its attention takes no keys of fewer heads and no pass over an arena.
        ("GPTNeoXConfig", {}),
    ],
)
def test_another_attention_cannot_be_continuous(
    tiny: Tiny, tiny_folder: Callable[..., Path], kind: str, more: dict[str, object]
) -> None:
    folder = tiny_folder(kind, **more)
    with pytest.raises(ConfigurationError, match=r"models\.tiny\.batching: continuous needs"):
        tiny(folder, batching="continuous", device="cpu")


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 40)), max_size=60))
def test_spans_never_overlap_and_nothing_is_lost(steps: list[tuple[bool, int]]) -> None:
    spans = SpanAllocator(100)
    held: list[tuple[int, int]] = []
    for taking, number in steps:
        if taking:
            start = spans.take(number)
            if start is not None:
                assert all(start + number <= s or s + size <= start for s, size in held)
                assert 0 <= start <= 100 - number
                held.append((start, number))
            elif not held:
                assert number > 100
        elif held:
            spans.give(*held.pop(number % len(held)))
        assert spans.free == 100 - sum(size for _, size in held)
    for span in held:
        spans.give(*span)
    assert spans.take(100) == 0


def test_rows_behind_one_that_ends_early_keep_their_own_tokens(tiny: Tiny) -> None:
    """Its end is seen one step late, when the next step's tokens are already there, in the old order."""
    engine = tiny(batching="continuous", device="cpu")
    requests = _requests(new=(16,))
    expected = _expected(engine, requests)
    for request in requests[::2]:
        stop = expected[request.request_id][4:8]
        requests[request.request_id] = replace(request, stop=(stop,))
        expected[request.request_id] = expected[request.request_id].partition(stop)[0]
    assert _texts(list(engine.generate(requests))) == expected
