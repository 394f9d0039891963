"""A batch says what each request would say alone: in float32, exactly."""

from collections.abc import Callable
from pathlib import Path

import pytest

from resources.gpu.batching import plan_batches
from resources.gpu.engines.base import Completion, GenerationRequest
from resources.gpu.engines.static_batch import StaticBatch
from resources.gpu.engines.transformers_engine import TransformersEngine
from resources.gpu.model_config import ModelConfig
from resources.gpu.weights import WeightsInfo
from tests.gpu.conftest import SHIPPED, alone

SUMMARIZE = "Say in one sentence what this Python function does.\n\n{}"
CLASSIFY = "Name the topic of this text in one word: {}"
TEXTS = (
    "Return the absolute value of a number.",
    "Open a file and return a stream. Raises OSError upon failure.",
    "Sort the list in place.",
    "Split the string at the separator and return the parts before it, itself, and after it.",
    "Wait.",
)


def _requests(new: tuple[int, ...] = (12, 5, 16)) -> list[GenerationRequest]:
    prompts = [template.format(text) for text in TEXTS for template in (SUMMARIZE, CLASSIFY)]
    return [
        GenerationRequest(100 + number, prompt, new[number % len(new)])
        for number, prompt in enumerate([*prompts, "What is the capital of France?"])
    ]


def _by_id(completions: list[Completion]) -> dict[int, str]:
    assert all(completion.error is None for completion in completions)
    assert len({completion.request_id for completion in completions}) == len(completions)
    return {completion.request_id: completion.text for completion in completions}


def test_shipped_model_says_in_a_batch_what_it_says_alone(shipped: TransformersEngine) -> None:
    requests = _requests()
    texts = _by_id(list(shipped.generate(requests)))
    assert texts == {request.request_id: alone(shipped, request) for request in requests}
    assert texts[110].startswith("The capital of France")


def test_a_system_prompt_reaches_the_model(shipped: TransformersEngine) -> None:
    request = GenerationRequest(1, "Who are you?", 8, system="You are a pirate named Anne.")
    (completion,) = shipped.generate([request])
    assert completion.text == alone(shipped, request)
    assert shipped.encode(request.prompt, request.system) != shipped.encode(request.prompt, None)


def test_steps_share_a_batch_and_every_template_is_computed_once(
    shipped: TransformersEngine,
) -> None:
    completions = list(shipped.generate(_requests((2,))))
    assert {
        (done.provenance["batch_id"], done.provenance["batch_size"]) for done in completions
    } == {(completions[0].provenance["batch_id"], len(completions))}
    assert completions[0].provenance["shared_prefix_tokens"] > 20
    assert completions[0].provenance["model_sha256"] == shipped.weights.sha256
    assert completions[0].provenance["dtype"] == "float32"


def test_batch_size_and_prefix_sharing_change_nothing(
    tiny: Callable[..., TransformersEngine],
) -> None:
    engine, requests = tiny(), _requests((20, 3, 30))
    expected = {request.request_id: alone(engine, request) for request in requests}
    assert _by_id(list(engine.generate(requests))) == expected
    for size in (1, 3):
        engine.max_batch = size
        assert _by_id(list(engine.generate(requests))) == expected
    engine._share = False
    engine.max_batch = 64
    completions = list(engine.generate(requests))
    assert {done.provenance["shared_prefix_tokens"] for done in completions} == {0}
    assert _by_id(completions) == expected


def test_rows_leave_as_they_end_and_the_rest_move_together(
    tiny: Callable[..., TransformersEngine],
) -> None:
    engine = tiny()
    caps = (1, 2, 3, 4, 30, 31, 32, 33)
    requests = [GenerationRequest(cap, f"Tell me about {cap}.", cap) for cap in caps]
    sizes: list[int] = []
    handle = engine.model.register_forward_pre_hook(
        lambda module, args, kwargs: sizes.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    completions = list(engine.generate(requests))
    handle.remove()
    assert [done.output_tokens for done in completions] == list(caps)
    assert {done.finish_reason for done in completions} == {"length"}
    assert sizes[:2] == [8, 8]
    assert sizes[-1] < 8
    assert _by_id(completions) == {
        cap: alone(engine, request) for cap, request in zip(caps, requests, strict=True)
    }


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("Qwen2Config", {"use_sliding_window": False}),
        ("MistralConfig", {"sliding_window": 16}),
        ("Gemma3TextConfig", {"sliding_window": 16, "head_dim": 16}),
    ],
)
def test_other_architectures(
    tiny: Callable[..., TransformersEngine],
    tiny_folder: Callable[..., Path],
    kind: str,
    more: dict[str, int],
) -> None:
    """Sliding windows go without a shared prefix, since the gap behind it would shift them."""
    engine = tiny(tiny_folder(kind, **more))
    requests = _requests((24, 3))
    completions = list(engine.generate(requests))
    assert _by_id(completions) == {
        request.request_id: alone(engine, request) for request in requests
    }
    shared = completions[0].provenance["shared_prefix_tokens"]
    assert (shared == 0) == ("sliding_window" in more)


def test_bfloat16_gives_the_same_bytes_for_the_same_batch(shipped_weights: WeightsInfo) -> None:
    config = ModelConfig(source=SHIPPED, dtype="bfloat16", device="cpu")
    engine = TransformersEngine(config, shipped_weights, "demo")
    requests = _requests((10,))
    first = _by_id(list(engine.generate(requests)))
    assert _by_id(list(engine.generate(requests))) == first
    assert str(engine.model.dtype) == "torch.bfloat16"
    engine.close()


def test_stop_strings_cut_the_text_before_them(shipped: TransformersEngine) -> None:
    whole = GenerationRequest(1, "List three colors, separated by commas.", 24)
    (free,) = shipped.generate([whole])
    stop = free.text[6:9]
    (cut,) = shipped.generate([GenerationRequest(1, whole.prompt, 24, stop=("never said", stop))])
    assert cut.text == free.text[: free.text.index(stop)]
    assert cut.finish_reason == "stop"
    assert cut.output_tokens < free.output_tokens


def test_completions_come_before_the_batch_has_ended(
    tiny: Callable[..., TransformersEngine],
) -> None:
    """The caller commits what has ended while the other rows go on."""
    engine = tiny()
    steps: list[int] = []
    engine.model.register_forward_hook(lambda *_: steps.append(1))
    running = engine.generate([GenerationRequest(1, "short", 2), GenerationRequest(2, "long", 40)])
    assert next(running).request_id == 1
    assert len(steps) < 10
    assert [done.request_id for done in running] == [2]
    assert len(steps) > 30


def test_the_caller_s_gradient_mode_is_its_own_between_completions(
    tiny: Callable[..., TransformersEngine],
) -> None:
    import torch

    requests = [GenerationRequest(1, "a", 2), GenerationRequest(2, "b", 4)]
    for _ in tiny().generate(requests):
        assert not torch.is_inference_mode_enabled()


def test_an_abandoned_batch_leaves_the_engine_usable(
    tiny: Callable[..., TransformersEngine],
) -> None:
    engine = tiny()
    requests = _requests((2, 20))
    next(engine.generate(requests))
    assert _by_id(list(engine.generate(requests))) == {
        request.request_id: alone(engine, request) for request in requests
    }


def test_ctrl_c_is_not_swallowed(tiny: Callable[..., TransformersEngine]) -> None:
    engine = tiny()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    handle = engine.model.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        list(engine.generate(_requests((2,))))
    handle.remove()
    assert len(list(engine.generate(_requests((2,))))) == len(_requests())


def test_prefill_in_length_buckets_covers_every_row(
    tiny: Callable[..., TransformersEngine],
) -> None:
    """A small bucket splits the prompts' forward pass; the outcome stays."""
    import dataclasses

    from resources.gpu.batching import Row

    engine, requests = tiny(), _requests((6,))
    rows = [Row(n, engine.encode(r.prompt, None), 6) for n, r in enumerate(requests)]
    (plan,) = plan_batches(rows, 64, 100_000)
    assert engine._loaded is not None
    texts = [
        sorted((end.row.index, end.text) for end in StaticBatch(loaded, plan, requests).run())
        for loaded in (engine._loaded, dataclasses.replace(engine._loaded, prefill_tokens=1))
    ]
    assert texts[0] == texts[1]
