from collections.abc import Callable

import torch

from resources.gpu.engines.base import GenerationRequest
from resources.gpu.engines.sampling import penalize_repetition, row_generator, sample
from resources.gpu.engines.transformers_engine import TransformersEngine
from tests.gpu.conftest import alone


def _story(number: int, seed: int) -> GenerationRequest:
    return GenerationRequest(number, "Tell a story.", 12, temperature=1.0, seed=seed)


def test_a_seed_gives_the_same_text_alone_and_in_any_batch(
    tiny: Callable[..., TransformersEngine],
) -> None:
    engine = tiny()
    (first,) = engine.generate([_story(1, 5)])
    others = [_story(number, number) for number in range(10, 14)]
    batch = {
        done.request_id: done.text
        for done in engine.generate([*others, _story(1, 5), _story(2, 5)])
    }
    assert batch[1] == batch[2] == first.text
    assert len(set(batch.values())) > 1


def _drawn(request: GenerationRequest, scores: list[float]) -> set[int]:
    generator = row_generator(request, torch.device("cpu"))
    return {sample(torch.tensor([scores]), request, generator) for _ in range(300)}


def test_top_k_and_top_p_leave_out_the_unlikely() -> None:
    scores = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().tolist()
    assert _drawn(GenerationRequest(1, "p", 1, temperature=1.0), scores) == {0, 1, 2, 3}
    assert _drawn(GenerationRequest(1, "p", 1, temperature=1.0, top_k=2), scores) == {0, 1}
    assert _drawn(GenerationRequest(1, "p", 1, temperature=1.0, top_p=0.7), scores) == {0, 1}
    assert _drawn(GenerationRequest(1, "p", 1, temperature=1.0, top_p=0.01), scores) == {0}
    assert _drawn(GenerationRequest(1, "p", 1), scores) == {0}


def test_repetition_penalty_makes_seen_tokens_less_likely() -> None:
    scores = torch.tensor([[2.0, -1.0, 3.0]])
    penalize_repetition(scores, 2.0, torch.tensor([0, 1]))
    assert scores.tolist() == [[1.0, -2.0, 3.0]]


def test_repetition_penalty_is_the_one_of_transformers(
    tiny: Callable[..., TransformersEngine],
) -> None:
    engine = tiny()
    requests = [
        GenerationRequest(number, prompt, 16, repetition_penalty=1.5)
        for number, prompt in enumerate(("one two", "three four five"))
    ]
    assert {done.request_id: done.text for done in engine.generate(requests)} == {
        request.request_id: alone(engine, request) for request in requests
    }
