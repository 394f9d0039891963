"""Models in memory: each is loaded once, and the least recently used leaves when the next needs its place."""

import logging
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from threading import RLock

from resources.gpu.engines.base import Engine
from resources.gpu.model_config import ModelConfig
from resources.gpu.weights import WeightsInfo, ensure_weights
from resources.machine_reading import memory

_log = logging.getLogger(__name__)
_HEADROOM = 1.5
"""A model needs its weights and about half as much again for keys, values and workspace."""


@dataclass(frozen=True)
class ModelLoad:
    """One load: where the weights came from and what it took."""

    model: str
    seconds: float
    bytes: int
    """Of the parameters in memory."""
    tier: str
    """'converted' when the source had to be converted first, else 'disk'."""
    dtype: str
    dtype_reason: str
    sha256: str


class ModelCache:
    """Thread-safe. ``budget`` in bytes of parameters; None keeps what the free memory allows."""

    def __init__(self, cache_dir: Path | None = None, budget: int | None = None) -> None:
        self._cache_dir = cache_dir
        self._budget = budget
        self._lock = RLock()
        self._engines: OrderedDict[tuple[str, ModelConfig], tuple[Engine, int]] = OrderedDict()
        self.loads: list[ModelLoad] = []
        self.evictions = 0

    def get(self, model_key: str, config: ModelConfig) -> Engine:
        """The model's engine, loaded if need be."""
        with self._lock:
            held = self._engines.get((model_key, config))
            if held is not None:
                self._engines.move_to_end((model_key, config))
                return held[0]
            return self._load(model_key, config)

    def resident(self) -> list[str]:
        """Keys of the loaded models, least recently used first."""
        with self._lock:
            return [key for key, _ in self._engines]

    def close(self) -> None:
        """Unload everything."""
        with self._lock:
            while self._engines:
                self._evict()

    def _load(self, model_key: str, config: ModelConfig) -> Engine:
        from resources.gpu.engines.transformers_engine import TransformersEngine

        start = time.perf_counter()
        weights = ensure_weights(config.source, self._cache_dir, config.revision, model_key)
        self._make_room(weights, config)
        engine = TransformersEngine(config, weights, model_key)
        load = ModelLoad(
            model=model_key,
            seconds=time.perf_counter() - start,
            bytes=engine.memory_bytes,
            tier="converted" if weights.converted else "disk",
            dtype=engine.dtype.name,
            dtype_reason=engine.dtype.reason,
            sha256=weights.sha256,
        )
        self._engines[(model_key, config)] = (engine, load.bytes)
        self.loads.append(load)
        _log.info(
            "loaded %s: %s (%s), %.0f MB in %.1f s",
            model_key,
            load.dtype,
            load.dtype_reason,
            load.bytes / 1e6,
            load.seconds,
        )
        return engine

    def _make_room(self, weights: WeightsInfo, config: ModelConfig) -> None:
        """Evict until the next model fits into the budget, or into the device's free memory."""
        from resources.gpu.dtype_probe import choose_device, choose_dtype

        device = choose_device(config.device)
        width = 4 if choose_dtype(config.dtype, device).name == "float32" else 2
        needed = weights.parameters * width
        for engine, _ in self._engines.values():
            engine.trim()
        while self._engines:
            if self._budget is not None:
                fits = sum(size for _, size in self._engines.values()) + needed <= self._budget
            else:
                fits = needed * _HEADROOM <= free_memory(str(device))
            if fits:
                return
            self._evict()

    def _evict(self) -> None:
        (model_key, _), (engine, _) = self._engines.popitem(last=False)
        engine.close()
        self.evictions += 1
        _log.info("unloaded %s", model_key)


def free_memory(device: str) -> int:
    """Bytes that a new model may take on the device."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    return memory().available
