"""One bad request never takes its neighbours along."""

import math
from collections.abc import Callable

import pytest
import torch

from resources.gpu.engines.base import Completion, GenerationRequest
from resources.gpu.engines.transformers_engine import TransformersEngine
from resources.interaction import ErrorClass

Tiny = Callable[..., TransformersEngine]
POISON = "zebra"


def _requests(count: int, poisoned: tuple[int, ...] = ()) -> list[GenerationRequest]:
    return [
        GenerationRequest(n, f"Tell me about number {n} {POISON if n in poisoned else ''}", 4)
        for n in range(count)
    ]


def _poison_token(engine: TransformersEngine) -> int:
    (token,) = engine.tokenizer(f" {POISON}", add_special_tokens=False)["input_ids"]
    return int(token)


def _fail_on(
    engine: TransformersEngine, fails: Callable[[torch.Tensor], BaseException | None]
) -> list[int]:
    """Makes the model's forward pass raise; returns the list that collects its batch sizes."""
    sizes: list[int] = []

    def hook(module: object, args: tuple[torch.Tensor, ...]) -> None:
        sizes.append(len(args[0]))
        error = fails(args[0])
        if error is not None:
            raise error

    engine.model.get_input_embeddings().register_forward_pre_hook(hook)
    return sizes


def _errors(completions: list[Completion]) -> dict[int, ErrorClass]:
    return {done.request_id: done.error.error_class for done in completions if done.error}


@pytest.mark.parametrize("poisoned", [(5,), (0, 6, 15)])
def test_a_request_that_breaks_the_forward_pass_ends_alone(
    tiny: Tiny, poisoned: tuple[int, ...]
) -> None:
    engine = tiny()
    clean = {done.request_id: done.text for done in engine.generate(_requests(16))}
    token = _poison_token(engine)
    sizes = _fail_on(
        engine,
        lambda ids: (
            IndexError("index out of range in self") if bool((ids == token).any()) else None
        ),
    )
    completions = list(engine.generate(_requests(16, poisoned)))
    assert sorted(done.request_id for done in completions) == list(range(16))
    assert _errors(completions) == dict.fromkeys(poisoned, ErrorClass.POISON)
    for done in completions:
        if done.error is None:
            assert done.text == clean[done.request_id]
        else:
            assert "index out of range" in done.error.message
    assert sizes.count(1) >= 1


def test_the_search_for_the_bad_request_takes_few_passes(tiny: Tiny) -> None:
    engine = tiny()
    token = _poison_token(engine)
    _fail_on(engine, lambda ids: IndexError("bad") if bool((ids == token).any()) else None)
    completions = list(engine.generate(_requests(32, (7,))))
    batches = {done.provenance["batch_id"] for done in completions}
    assert len(batches) <= 1 + math.log2(32)


def test_an_output_that_is_not_a_number_is_an_error_not_a_text(tiny: Tiny) -> None:
    engine = tiny()
    with torch.no_grad():
        engine.model.get_input_embeddings().weight[_poison_token(engine)] = math.nan
    completions = list(engine.generate(_requests(6, (2,))))
    assert _errors(completions) == {2: ErrorClass.POISON}


def test_a_model_that_always_fails_is_the_engine_s_fault(tiny: Tiny) -> None:
    engine = tiny()
    _fail_on(engine, lambda ids: RuntimeError("the device is gone"))
    completions = list(engine.generate(_requests(4)))
    assert _errors(completions) == dict.fromkeys(range(4), ErrorClass.ENGINE)


def test_out_of_memory_halves_the_batch_and_remembers(tiny: Tiny) -> None:
    engine = tiny()
    sizes = _fail_on(
        engine, lambda ids: torch.OutOfMemoryError("no room") if len(ids) > 5 else None
    )
    completions = list(engine.generate(_requests(16)))
    assert _errors(completions) == {}
    assert len(completions) == 16
    assert engine.max_batch == 4
    sizes.clear()
    assert len(list(engine.generate(_requests(16)))) == 16
    assert max(sizes) <= 4


def test_a_request_too_large_for_the_memory_ends_as_oom(tiny: Tiny) -> None:
    engine = tiny()
    token = _poison_token(engine)
    _fail_on(engine, lambda ids: MemoryError("no room") if bool((ids == token).any()) else None)
    completions = list(engine.generate(_requests(4, (1,))))
    assert _errors(completions) == {1: ErrorClass.OOM}
    assert len(completions) == 4


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (GenerationRequest(1, "  ", 5), ErrorClass.TEMPLATE),
        (GenerationRequest(1, "word " * 600, 5), ErrorClass.PROMPT_TOO_LONG),
        (GenerationRequest(1, "word", 512), ErrorClass.PROMPT_TOO_LONG),
        (GenerationRequest(1, "<outside>", 5), ErrorClass.POISON),
    ],
)
def test_what_cannot_run_is_refused_before_it_joins_a_batch(
    tiny: Tiny, request_: GenerationRequest, expected: ErrorClass
) -> None:
    engine = tiny()
    engine.tokenizer.add_tokens(["<outside>"])
    error = engine.check(request_)
    assert error is not None
    assert error.error_class is expected
    sizes = _fail_on(engine, lambda ids: None)
    (completion,) = engine.generate([request_])
    assert completion.error == error
    assert sizes == []


def test_the_configured_context_is_the_limit_when_it_is_smaller(tiny: Tiny) -> None:
    request = GenerationRequest(1, "word " * 60, 5)
    assert tiny().check(request) is None
    error = tiny(max_context=64).check(request)
    assert error is not None
    assert "the context of 64" in error.message


def test_a_closed_engine_says_so(tiny: Tiny) -> None:
    engine = tiny()
    engine.close()
    with pytest.raises(RuntimeError, match="closed"):
        list(engine.generate(_requests(1)))
