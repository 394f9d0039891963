"""Models in memory: each is loaded once, and leaves when another needs its place sooner."""

import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import RLock

from resources.gpu.dtype_probe import choose_device, choose_dtype
from resources.gpu.engines.base import Engine
from resources.gpu.model_config import ModelConfig
from resources.gpu.weights import ensure_weights
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
    """'host' when it waited in the host's memory, 'converted' when the source had to be converted
    first, else 'disk'."""
    dtype: str
    dtype_reason: str
    sha256: str


class ModelCache:
    """Thread-safe. ``budget`` in bytes of parameters; None keeps what the free memory allows.

    A model that must leave a GPU waits in the host's memory where there is room, else its weights
    are read from disk again.
    """

    def __init__(self, cache_dir: Path | None = None, budget: int | None = None) -> None:
        self._cache_dir = cache_dir
        self._budget = budget
        self._lock = RLock()
        self._engines: _Engines = OrderedDict()
        self._parked: _Engines = OrderedDict()
        self.loads: list[ModelLoad] = []
        self.evictions = 0

    def get(self, model_key: str, config: ModelConfig, later: Sequence[str] = ()) -> Engine:
        """The model's engine, loaded if need be.

        ``later``: models that will be needed after it, the next one first. When one must leave, it
        is one that will not be needed, else the one that is needed last.
        """
        with self._lock:
            held = self._engines.get((model_key, config))
            if held is not None:
                self._engines.move_to_end((model_key, config))
                return held.engine
            parked = self._parked.pop((model_key, config), None)
            if parked is not None:
                return self._resume(model_key, config, parked, later)
            return self._load(model_key, config, later)

    def resident(self) -> list[str]:
        """Keys of the models on their devices, least recently used first."""
        with self._lock:
            return [key for key, _ in self._engines]

    def close(self) -> None:
        """Unload everything."""
        with self._lock:
            for engines in (self._engines, self._parked):
                while engines:
                    engines.popitem()[1].engine.close()

    def _load(self, model_key: str, config: ModelConfig, later: Sequence[str]) -> Engine:
        from resources.gpu.engines.transformers_engine import TransformersEngine

        start = time.perf_counter()
        weights = ensure_weights(config.source, self._cache_dir, config.revision, model_key)
        self._make_room(weights.parameters * _width(config), config, later)
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
        return self._hold(config, engine, load)

    def _resume(
        self, model_key: str, config: ModelConfig, parked: "_Held", later: Sequence[str]
    ) -> Engine:
        start = time.perf_counter()
        self._make_room(parked.load.bytes, config, later)
        parked.engine.resume()
        seconds = time.perf_counter() - start
        return self._hold(config, parked.engine, replace(parked.load, seconds=seconds, tier="host"))

    def _hold(self, config: ModelConfig, engine: Engine, load: ModelLoad) -> Engine:
        self._engines[load.model, config] = _Held(engine, load)
        self.loads.append(load)
        _log.info(
            "loaded %s: %s (%s), %.0f MB in %.1f s from %s",
            *(load.model, load.dtype, load.dtype_reason, load.bytes / 1e6, load.seconds, load.tier),
        )
        return engine

    def _make_room(self, needed: int, config: ModelConfig, later: Sequence[str]) -> None:
        """Evict until ``needed`` bytes fit into the budget, or into the device's free memory."""
        for held in self._engines.values():
            held.engine.trim()
        device = str(choose_device(config.device))
        while self._engines:
            if self._budget is not None:
                used = sum(held.load.bytes for held in self._engines.values())
                fits = used + needed <= self._budget
            else:
                fits = needed * _HEADROOM <= free_memory(device)
            if fits:
                return
            self._evict(later)

    def _evict(self, later: Sequence[str]) -> None:
        key = farthest(list(self._engines), later)
        held = self._engines.pop(key)
        self.evictions += 1
        if held.engine.park():
            self._parked[key] = held
            _log.info("moved %s to the host's memory", key[0])
        else:
            held.engine.close()
            _log.info("unloaded %s", key[0])


@dataclass(frozen=True)
class _Held:
    engine: Engine
    load: ModelLoad


_Key = tuple[str, ModelConfig]
_Engines = OrderedDict[_Key, _Held]


def farthest(held: Sequence[_Key], later: Sequence[str]) -> _Key:
    """Of models, least recently used first, the one whose next use is farthest away."""
    unneeded = [key for key in held if key[0] not in later]
    return unneeded[0] if unneeded else max(held, key=lambda key: later.index(key[0]))


def _width(config: ModelConfig) -> int:
    """Bytes a parameter in the dtype that the model will have."""
    return 4 if choose_dtype(config.dtype, choose_device(config.device)).name == "float32" else 2


def free_memory(device: str) -> int:
    """Bytes that a new model may take on the device."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    return memory().available
