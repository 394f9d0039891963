"""What only a GPU can show: the kernels' numbers, and the engine's own choice of continuous batches."""

from collections.abc import Iterator

import pytest
import torch

from resources.gpu.engines.arena_attention import kernels
from resources.gpu.engines.arena_model import ArenaModel, Piece
from resources.gpu.engines.base import Completion, GenerationRequest
from resources.gpu.engines.kv_arena import KvArena
from resources.gpu.engines.transformers_engine import TransformersEngine
from resources.gpu.model_config import ModelConfig
from resources.gpu.weights import WeightsInfo
from resources.interaction import ErrorClass
from tests.gpu.conftest import SHIPPED, alone

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")

TEXTS = [f"Return the {word} of the values." for word in ("sum", "mean", "least", "largest")]
PROMPT = "Say in one short sentence what this part of Python's library does.\n\n{}"


@pytest.fixture(scope="module")
def engine(shipped_weights: WeightsInfo) -> Iterator[TransformersEngine]:
    """SmolLM2-135M as a GPU's user gets it without any setting."""
    engine = TransformersEngine(ModelConfig(source=SHIPPED), shipped_weights, "demo")
    yield engine
    engine.close()


def _requests(count: int = 40) -> list[GenerationRequest]:
    return [
        GenerationRequest(n, PROMPT.format(TEXTS[n % 4] + f" Number {n}."), 8 + n % 17)
        for n in range(count)
    ]


def _texts(completions: list[Completion]) -> dict[int, str]:
    assert [done.error for done in completions if done.error] == []
    return {done.request_id: done.text for done in completions}


def test_the_engine_chooses_bfloat16_and_continuous_batches(engine: TransformersEngine) -> None:
    completions = list(engine.generate(_requests()))
    assert len(_texts(completions)) == 40
    provenance = completions[0].provenance
    assert (provenance["engine"], provenance["dtype"]) == ("transformers-continuous", "bfloat16")
    assert provenance["shared_prefix_tokens"] > 20
    assert {done.provenance["batch_size"] for done in completions} == {40}


def test_the_same_batch_gives_the_same_bytes(engine: TransformersEngine) -> None:
    first = _texts(list(engine.generate(_requests())))
    assert _texts(list(engine.generate(_requests()))) == first


def test_most_texts_are_those_of_generate(engine: TransformersEngine) -> None:
    """bfloat16 promises no more: another order of additions changes the last bits."""
    requests = _requests(12)
    texts = _texts(list(engine.generate(requests)))
    same = sum(texts[request.request_id] == alone(engine, request) for request in requests)
    assert same >= 4


def test_logits_are_as_near_to_float32_as_those_of_sdpa(shipped_weights: WeightsInfo) -> None:
    import transformers

    prompts = [list(range(5, 5 + length)) for length in (3, 64, 129, 700)]
    logits: dict[str, list[torch.Tensor]] = {}
    for name, dtype in (("exact", torch.float32), ("sdpa", torch.bfloat16)):
        model = transformers.AutoModelForCausalLM.from_pretrained(shipped_weights.path, dtype=dtype)
        model = model.cuda().eval()
        with torch.inference_mode():
            rows = [torch.tensor([prompt], device="cuda") for prompt in prompts]
            logits[name] = [model(row).logits[0, -1].float() for row in rows]
    arena_model = ArenaModel(model, KvArena(model, 2000, model.device), 8, 512, kernels(True)[0])
    assert arena_model.fused
    with torch.inference_mode():
        pieces = [Piece(n * 200, 0, prompt) for n, prompt in enumerate(prompts[:3])]
        whole = Piece(1000, 0, prompts[3])
        found = list(arena_model.prompts([*pieces, whole]))
        arena_model.prompts([Piece(1000, 0, prompts[3][:300])])
        in_two = arena_model.prompts([Piece(1000, 300, prompts[3][300:])])[0]
    assert torch.allclose(in_two.float(), found[3].float(), atol=0.25)
    for exact, sdpa, ours in zip(logits["exact"], logits["sdpa"], found, strict=True):
        error = (ours.float() - exact).abs().max()
        assert error <= 2 * (sdpa - exact).abs().max() + 0.05


def test_rules_hold_beside_plain_rows(engine: TransformersEngine) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer", "minimum": 1, "maximum": 5}},
        "required": ["a"],
        "additionalProperties": False,
    }
    requests = [
        *_requests(6),
        GenerationRequest(100, "Give a as JSON.", 20, json_schema=schema),
        GenerationRequest(101, "Yes or no?", 4, one_of=("yes", "no")),
        GenerationRequest(102, "List three colors, separated by commas.", 24, stop=(",",)),
        GenerationRequest(103, "Say a number.", 8, temperature=1.0, seed=3),
    ]
    texts = _texts(list(engine.generate(requests)))
    assert texts[100].startswith('{"a": ')
    assert texts[101] in ("yes", "no")
    assert "," not in texts[102]


@pytest.mark.parametrize("poisoned", [range(33, 34), range(7, 500, 20)])
def test_poisoned_rows_of_500_end_alone(engine: TransformersEngine, poisoned: range) -> None:
    requests = _requests(500)
    bad = 12345

    def fail(module: object, args: tuple[torch.Tensor, ...]) -> None:
        if not torch.cuda.is_current_stream_capturing() and bool((args[0] == bad).any()):
            raise IndexError("index out of range in self")

    tokens = engine.encode
    prompts = {requests[number].prompt for number in poisoned}
    engine.encode = lambda prompt, system: (  # type: ignore[method-assign]
        (*tokens(prompt, system), bad) if prompt in prompts else tokens(prompt, system)
    )
    handle = engine.model.get_input_embeddings().register_forward_pre_hook(fail)
    completions = list(engine.generate(requests))
    handle.remove()
    engine.encode = tokens  # type: ignore[method-assign]
    errors = {done.request_id: done.error.error_class for done in completions if done.error}
    assert errors == dict.fromkeys(poisoned, ErrorClass.POISON)
    assert len(completions) == 500


def test_out_of_memory_is_survived(engine: TransformersEngine) -> None:
    failed: list[int] = []

    def fail(module: object, args: tuple[torch.Tensor, ...]) -> None:
        if args[0].numel() > 200:
            failed.append(args[0].numel())
            raise torch.OutOfMemoryError("CUDA out of memory (injected)")

    handle = engine.model.get_input_embeddings().register_forward_pre_hook(fail)
    completions = list(engine.generate(_requests(32)))
    handle.remove()
    assert failed
    assert len(_texts(completions)) == 32


def test_a_second_model_gets_the_memory_of_the_first_one_s_arena(
    engine: TransformersEngine, shipped_weights: WeightsInfo
) -> None:
    from resources.gpu.model_cache import ModelCache

    list(engine.generate(_requests(4)))
    engine.trim()
    cache = ModelCache(shipped_weights.path.parent)
    for _ in range(2):
        for key in ("a", "b", "c"):
            held = cache.get(key, ModelConfig(source=SHIPPED, max_batch=len(key)))
            list(held.generate(_requests(4)))
    assert [load.model for load in cache.loads] == ["a", "b", "c"]
    assert cache.evictions == 0
    cache.close()


def test_a_model_that_must_leave_waits_in_the_host_s_memory(
    engine: TransformersEngine, shipped_weights: WeightsInfo
) -> None:
    from resources.gpu.model_cache import ModelCache

    cache = ModelCache(shipped_weights.path.parent, budget=int(1.5 * engine.memory_bytes))
    config = {key: ModelConfig(source=SHIPPED, max_batch=len(key) + 2) for key in ("a", "b")}
    before = _texts(list(cache.get("a", config["a"]).generate(_requests(4))))
    cache.get("b", config["b"])
    assert cache.resident() == ["b"]
    assert _texts(list(cache.get("a", config["a"]).generate(_requests(4)))) == before
    assert [(load.model, load.tier) for load in cache.loads] == [
        ("a", "disk"),
        ("b", "disk"),
        ("a", "host"),
    ]
    cache.close()


def test_a_model_fetched_ahead_where_there_is_no_room_waits_in_the_host_s_memory(
    engine: TransformersEngine, shipped_weights: WeightsInfo
) -> None:
    from resources.gpu.model_cache import ModelCache

    cache = ModelCache(shipped_weights.path.parent, budget=int(1.5 * engine.memory_bytes))
    config = {key: ModelConfig(source=SHIPPED, max_batch=len(key) + 2) for key in ("a", "bb")}
    texts = _texts(list(cache.get("a", config["a"]).generate(_requests(4))))
    cache.fetch("bb", config["bb"])
    assert cache.resident() == ["a"]
    assert _texts(list(cache.get("bb", config["bb"]).generate(_requests(4)))) == texts
    assert [(load.model, load.tier) for load in cache.loads] == [("a", "disk"), ("bb", "host")]
    cache.close()


def test_what_was_seen_of_the_memory_is_near_what_was_predicted(
    shipped_weights: WeightsInfo,
) -> None:
    from resources.gpu.model_cache import ModelCache

    cache = ModelCache(shipped_weights.path.parent)
    config = ModelConfig(source=SHIPPED, batching="static")
    list(cache.get("a", config).generate(_requests(40)))
    memory = cache.memory("a", config)
    assert memory.predicted is not None
    assert memory.seen is not None
    assert memory.seen <= memory.predicted
    cache.close()
