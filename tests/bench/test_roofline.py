"""The least time for given work, by hand."""

from types import SimpleNamespace
from typing import Any

import pytest

from forge_assets.bench.roofline import ModelSize, Peaks, distinct_tokens, floor

SIZE = ModelSize(layers=1000, head=100, parameter_bytes=2, token_bytes=10)
FAST = 1e30


def test_common_beginnings_count_once() -> None:
    assert distinct_tokens([[1, 2, 3], [1, 2, 4, 5], [9]]) == 6
    assert distinct_tokens([[1, 2, 3, 4], [1, 2]]) == 4
    assert distinct_tokens([]) == 0


def test_prompts_are_bound_by_what_is_computed() -> None:
    found = floor(SIZE, Peaks(FAST, 100.0), [[1, 2, 3], [1, 2, 4]], [1, 1])
    assert found.prompts == pytest.approx(2 * (1000 * 4 + 100 * 2) / 100)
    assert found.steps == 0


def test_one_prompt_must_still_read_the_weights() -> None:
    found = floor(SIZE, Peaks(50.0, FAST), [[1]], [1])
    assert found.prompts == pytest.approx(2200 / 50)


def test_a_step_reads_the_weights_and_the_living_rows() -> None:
    """Rows of 3 and 1 new tokens: two steps, with 2 + 1 and 2 + 2 tokens cached."""
    found = floor(SIZE, Peaks(1.0, FAST), [[1, 2], [3, 4, 5]], [3, 1])
    assert found.steps == pytest.approx(2200 * 2 + 10 * (3 + 4))


def test_a_step_of_many_rows_is_bound_by_what_is_computed() -> None:
    found = floor(SIZE, Peaks(FAST, 10.0), [[1], [2], [3]], [2, 2, 2])
    assert found.steps == pytest.approx(2 * 1100 * 3 / 10)
    assert found.seconds == found.prompts + found.steps


def model(tied: bool) -> Any:
    """A model of 40 parameters in its layers and 20 in each end."""

    class Weight:
        def __init__(self, count: int) -> None:
            self.count = count

        def numel(self) -> int:
            return self.count

    embedding = Weight(20)
    head = embedding if tied else Weight(20)
    weights = [Weight(40), embedding] if tied else [Weight(40), embedding, head]
    config = SimpleNamespace(
        num_hidden_layers=3, num_key_value_heads=2, head_dim=4, get_text_config=lambda: config
    )
    return SimpleNamespace(
        get_output_embeddings=lambda: SimpleNamespace(weight=head),
        get_input_embeddings=lambda: SimpleNamespace(weight=embedding),
        parameters=lambda: weights,
        dtype=SimpleNamespace(itemsize=2),
        config=config,
    )


@pytest.mark.parametrize("tied", [True, False])
def test_the_embedding_is_looked_up_and_not_multiplied(tied: bool) -> None:
    size = ModelSize.of(model(tied))
    assert (size.layers, size.head) == (40, 20)
    assert size.weight_bytes == 120
    assert size.token_bytes == 3 * 2 * 2 * 4 * 2
