"""Answers that go round in circles are cut; those that only look like it are not."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from resources.gpu.engines.base import GenerationRequest
from resources.gpu.engines.repetition import loops
from resources.gpu.engines.transformers_engine import TransformersEngine

Tiny = Callable[..., TransformersEngine]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=32), st.lists(st.integers(10, 99)))
def test_any_short_unit_is_found_once_it_has_filled_the_tail(
    unit: list[int], before: list[int]
) -> None:
    looping = before + unit * (160 // len(unit) + 1)
    assert loops(looping)
    assert not loops([*looping, 100])


def test_a_long_row_of_one_token_is_no_loop_yet() -> None:
    assert not loops([5] * 128)
    assert loops([5] * 129)


def test_text_that_repeats_with_changes_is_no_loop() -> None:
    assert not loops([token for n in range(40) for token in (1, 2, 3, n)])


@pytest.mark.parametrize("batching", ["static", "continuous"])
def test_a_loop_is_cut_long_before_the_limit(tiny: Tiny, batching: str) -> None:
    engine = tiny(batching=batching, device="cpu", max_batch_tokens=2048)
    with torch.no_grad():
        # Whatever it reads, the model says the same token: the head sees nothing of it.
        engine.model.lm_head.weight.zero_()
    (end,) = engine.generate([GenerationRequest(1, "go", 400)])
    assert end.finish_reason == "repetition"
    assert end.output_tokens == 160
