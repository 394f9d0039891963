from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from resources.errors import ConfigurationError
from resources.gpu.engines.base import GenerationRequest
from resources.gpu.model_cache import ModelCache, farthest
from resources.gpu.model_config import ModelConfig


@pytest.fixture
def config(llama_folder: Path) -> ModelConfig:
    return ModelConfig(source=str(llama_folder), dtype="float32")


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[ModelCache]:
    cache = ModelCache(tmp_path)
    yield cache
    cache.close()


def _room_for_two(folder: Path, config: ModelConfig) -> ModelCache:
    probe = ModelCache(folder)
    probe.get("one", config)
    size = probe.loads[0].bytes
    probe.close()
    return ModelCache(folder, budget=int(2.5 * size))


def test_a_model_is_loaded_once_whoever_asks(cache: ModelCache, config: ModelConfig) -> None:
    with ThreadPoolExecutor(4) as pool:
        engines = set(pool.map(lambda _: cache.get("one", config), range(8)))
    assert len(engines) == 1
    (load,) = cache.loads
    assert (load.model, load.tier, load.dtype) == ("one", "converted", "float32")
    assert load.bytes > 1_000_000
    assert load.seconds > 0
    assert load.dtype_reason == "configured"


def test_a_second_load_comes_from_disk(cache: ModelCache, config: ModelConfig) -> None:
    cache.get("one", config)
    cache.close()
    cache.get("one", config)
    assert [load.tier for load in cache.loads] == ["converted", "disk"]
    assert cache.resident() == ["one"]


def test_interleaved_models_that_fit_are_loaded_once_each(
    cache: ModelCache, config: ModelConfig
) -> None:
    for _ in range(3):
        for key in ("a", "b"):
            cache.get(key, config)
    assert [load.model for load in cache.loads] == ["a", "b"]
    assert cache.evictions == 0


def test_the_least_recently_used_model_leaves_when_the_next_needs_its_place(
    tmp_path: Path, config: ModelConfig
) -> None:
    cache = _room_for_two(tmp_path, config)
    first = cache.get("a", config)
    cache.get("b", config)
    assert cache.get("a", config) is first
    cache.get("c", config)
    assert cache.resident() == ["a", "c"]
    assert cache.evictions == 1
    (completion,) = cache.get("a", config).generate([GenerationRequest(1, "go", 2)])
    assert completion.error is None
    cache.close()
    assert cache.resident() == []


def test_the_model_whose_next_use_is_farthest_leaves(tmp_path: Path, config: ModelConfig) -> None:
    cache = _room_for_two(tmp_path, config)
    uses = ["a", "b", "c", "a", "b", "d", "a"]
    for place, key in enumerate(uses):
        cache.get(key, config, later=uses[place + 1 :])
    # The least recently used one would have made seven loads.
    assert [load.model for load in cache.loads] == ["a", "b", "c", "b", "d"]
    cache.close()


@pytest.mark.parametrize(
    ("later", "leaves"),
    [([], "a"), (["a"], "b"), (["c", "b", "a"], "a"), (["a", "b", "c"], "c"), (["c", "a"], "b")],
)
def test_who_leaves(later: list[str], leaves: str) -> None:
    config = ModelConfig(source="x")
    assert farthest([(key, config) for key in "abc"], later) == (leaves, config)


def test_a_model_over_the_budget_is_loaded_alone(tmp_path: Path, config: ModelConfig) -> None:
    cache = ModelCache(tmp_path, budget=1)
    cache.get("a", config)
    cache.get("b", config)
    assert cache.resident() == ["b"]
    cache.close()


def test_a_cuda_device_that_is_not_there_is_refused(cache: ModelCache, llama_folder: Path) -> None:
    import torch

    absent = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(ConfigurationError, match="torch sees"):
        cache.get("one", ModelConfig(source=str(llama_folder), device=absent))
    assert cache.loads == []


def test_layers_that_batches_cannot_run_are_refused(
    cache: ModelCache, tiny_folder: Callable[..., Path]
) -> None:
    folder = tiny_folder("Lfm2Config", layer_types=["conv", "full_attention", "conv"])
    with pytest.raises(ConfigurationError, match=r"models\.one\.engine: .*conv"):
        cache.get("one", ModelConfig(source=str(folder), dtype="float32"))


def test_copies_of_the_resource_share_the_models(
    weights_cache: Path, config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from resources.gpu.resource import GpuResource, process_cache

    monkeypatch.setenv("FORGE_CACHE", str(weights_cache))
    first = GpuResource().engine("tiny", config)
    assert GpuResource().engine("tiny", config) is first
    assert [load.model for load in GpuResource().loads()] == ["tiny"]
    process_cache().close()


def test_a_model_is_fetched_ahead_only_where_nothing_must_leave(
    tmp_path: Path, config: ModelConfig
) -> None:
    config = config.model_copy(update={"device": "cpu"})  # a GPU's next model waits in the host
    cache = _room_for_two(tmp_path, config)
    cache.get("a", config)
    cache.fetch("b", config)
    cache.fetch("b", config)
    assert cache.resident() == ["a", "b"]
    cache.fetch("c", config)
    assert cache.resident() == ["a", "b"]
    assert (len(cache.loads), cache.evictions) == (2, 0)
    cache.close()


def test_what_a_model_needs_is_computed_before_it_is_loaded(
    cache: ModelCache, config: ModelConfig
) -> None:
    cache.get("one", config)
    before = cache.memory("one", config)
    assert before.predicted is not None
    assert before.predicted > cache.loads[0].bytes
    assert before.seen is None
    assert cache.memory("two", config).predicted is None


def test_a_model_that_did_not_fit_is_tried_again_when_another_has_left(
    tmp_path: Path, config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resources.gpu.model_cache as module

    cache = ModelCache(tmp_path)
    cache.get("a", config)
    refusals = [MemoryError("no room")]
    really_open = module.open_engine

    def open_engine(*args: Any, **options: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return really_open(*args, **options)

    monkeypatch.setattr(module, "open_engine", open_engine)
    cache.get("b", config)
    assert cache.resident() == ["b"]
    assert cache.evictions == 1
    cache.close()


def test_coming_back_to_a_model_frees_what_the_other_worked_in(
    cache: ModelCache, llama_folder: Path
) -> None:
    config = ModelConfig(
        source=str(llama_folder),
        dtype="float32",
        device="cpu",
        batching="continuous",
        max_batch_tokens=256,
    )
    engines: Any = {key: cache.get(key, config) for key in "ab"}
    list(engines["b"].generate([GenerationRequest(1, "go", 4)]))
    cache.get("b", config)
    assert engines["b"]._arena_model is not None, "nobody else worked meanwhile"
    cache.get("a", config)
    assert engines["b"]._arena_model is None


def test_only_models_of_the_same_device_make_room(
    tmp_path: Path, config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second model lies, as far as the cache can see, on a GPU of which the first knows nothing."""
    import torch

    import resources.gpu.model_cache as module

    cache = ModelCache(tmp_path, budget=1)
    first = cache.get("a", config)
    elsewhere = {"cpu": torch.device("cpu"), "auto": torch.device("meta")}
    monkeypatch.setattr(module, "choose_device", lambda name: elsewhere[name])
    cache.get("b", config.model_copy(update={"device": "cpu"}))
    assert cache.resident() == ["a", "b"]
    assert cache.get("a", config) is first
    cache.close()
