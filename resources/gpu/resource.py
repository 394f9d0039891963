"""The Dagster resource over the process-wide model cache."""

import importlib
from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING

import dagster as dg

from resources.gpu.dtype_probe import choose_device
from resources.gpu.hf import import_transformers
from resources.gpu.model_config import ModelConfig

if TYPE_CHECKING:
    from resources.gpu.engines.base import Engine
    from resources.gpu.model_cache import MemoryUse, ModelCache, ModelLoad
    from resources.gpu.weights import WeightsInfo

_lock = Lock()
_cache: "ModelCache | None" = None


def process_cache() -> "ModelCache":
    """The one model cache of this process: Dagster copies resources, models must not be copied."""
    from resources.gpu.model_cache import ModelCache

    global _cache
    with _lock:
        if _cache is None:
            _cache = ModelCache()
        return _cache


class GpuResource(dg.ConfigurableResource):
    """Engines by model key, and what the devices and the weights are like."""

    def engine(self, model_key: str, config: ModelConfig, later: Sequence[str] = ()) -> "Engine":
        """The model's engine, loaded once per process; ``later`` names models needed after it."""
        return process_cache().get(model_key, config, later)

    def fetch(self, model_key: str, config: ModelConfig) -> None:
        """Bring a model nearer that is needed next, without anything leaving for it."""
        process_cache().fetch(model_key, config)

    def memory(self, model_key: str, config: ModelConfig) -> "MemoryUse":
        """What was predicted for a model, and what it was seen to use."""
        return process_cache().memory(model_key, config)

    def resident(self) -> list[str]:
        """Keys of the models that are loaded now."""
        return process_cache().resident()

    def device(self, config: ModelConfig) -> str:
        """Where the model runs, as torch names it. Imports torch and transformers."""
        # With what a load imports, so that the first claim does not wait for it.
        import_transformers()
        device = choose_device(config.device)
        # One name for one device: "cuda" is the first.
        return f"cuda:{device.index or 0}" if device.type == "cuda" else device.type

    def import_grammars(self) -> None:
        """What constrained decoding needs, before the first claim like the rest."""
        importlib.import_module("xgrammar")

    def loads(self) -> "list[ModelLoad]":
        """Every load of this process so far."""
        return list(process_cache().loads)

    def evictions(self) -> int:
        """Models of this process that had to leave their device so far."""
        return process_cache().evictions

    def ensure_weights(self, model_key: str, config: ModelConfig) -> "WeightsInfo":
        """Convert the model's weights unless that is done."""
        from resources.gpu.weights import ensure_weights

        return ensure_weights(config.source, None, config.revision, model_key)
