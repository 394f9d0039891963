"""Models in memory: each is loaded once, and leaves when another needs its place sooner."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, TypeVar

from resources.gpu.dtype_probe import choose_device, choose_dtype
from resources.gpu.engines.base import Engine
from resources.gpu.engines.faults import out_of_memory
from resources.gpu.engines.opening import connect_engine, open_engine
from resources.gpu.memory_need import MemoryNeed, host_has_room, memory_need
from resources.gpu.model_config import ModelConfig
from resources.gpu.weights import WeightsInfo, ensure_weights
from resources.host_memory import memory

if TYPE_CHECKING:
    import torch

_T = TypeVar("_T")
_log = logging.getLogger(__name__)
SERVER = "server"
_SEEN_MARGIN = 1.1
"""The next batches may need a little more than those that were seen."""


@dataclass(frozen=True)
class ModelLoad:
    """One load: where the weights came from and what it took."""

    model: str
    seconds: float
    bytes: int
    """Of the parameters in memory."""
    tier: str
    """'host' when it waited in the host's memory, 'converted' when the source had to be converted
    first, 'server' when a server holds it, else 'disk'."""
    dtype: str
    dtype_reason: str
    sha256: str


@dataclass(frozen=True)
class MemoryUse:
    """Bytes of a model with what it works in: as computed before its load, and the most seen."""

    predicted: int | None = None
    seen: int | None = None


class ModelCache:
    """Thread-safe. ``budget`` in bytes of parameters; None keeps what the free memory allows.

    A model that must leave a GPU waits in the host's memory where there is room, else its weights
    are read from disk again.
    """

    def __init__(self, cache_dir: Path | None = None, budget: int | None = None) -> None:
        self._cache_dir = cache_dir
        self._budget = budget
        self._lock = RLock()
        self._servers: _Engines = OrderedDict()
        self._server_lock = RLock()
        """Its own: who asks a server does not wait for a model that is being loaded here."""
        self._engines: _Engines = OrderedDict()
        self._parked: _Engines = OrderedDict()
        self._needs: dict[_Key, MemoryNeed] = {}
        self.loads: list[ModelLoad] = []
        self.evictions = 0

    def get(self, model_key: str, config: ModelConfig, later: Sequence[str] = ()) -> Engine:
        """The model's engine, loaded if need be.

        ``later``: models that will be needed after it, the next one first. When one must leave, it
        is one that will not be needed, else the one that is needed last.
        """
        if config.served:
            return self._server(model_key, config)
        with self._lock:
            held = self._engines.get((model_key, config))
            if held is not None:
                if next(reversed(self._engines)) != (model_key, config):
                    # Another model worked since, and may have taken what was free to work in.
                    self._trim(choose_device(config.device), keep=(model_key, config))
                self._engines.move_to_end((model_key, config))
                return held.engine
            parked = self._parked.pop((model_key, config), None)
            if parked is not None:
                return self._resume(model_key, config, parked, later)
            return self._load(model_key, config, later)

    def fetch(self, model_key: str, config: ModelConfig) -> None:
        """Bring a model that will be needed next into the host's memory, beside one that is at work.

        Only where there is room, and not onto a GPU: the model at work has taken what was free there.
        """
        key = (model_key, config)
        with self._lock:
            known = key in self._engines or key in self._parked
            if known or config.engine in ("vllm", "openai_http"):
                return
            weights = ensure_weights(config.source, self._cache_dir, config.revision, model_key)
            need, device = self._need(key, weights), choose_device(config.device)
            on_gpu = device.type == "cuda"
            if not (host_has_room(need.weights) if on_gpu else self._fits(need, device)):
                return
            start = time.perf_counter()
            engine = open_engine(model_key, config, weights, on_host=on_gpu)
            load = _load_of(model_key, engine, weights, time.perf_counter() - start)
            if on_gpu:
                self._parked[key] = _Held(engine, load)
            else:
                self._hold(config, engine, load)

    def memory(self, model_key: str, config: ModelConfig) -> MemoryUse:
        """What was predicted for the model, and what it was seen to use."""
        key = (model_key, config)
        with self._lock:
            need, held = self._needs.get(key), self._engines.get(key)
            if need is None or held is None:
                return MemoryUse()
            seen = held.engine.workspace_seen
            return MemoryUse(need.total, None if seen is None else held.load.bytes + seen)

    def resident(self) -> list[str]:
        """Keys of the models on their devices, least recently used first."""
        with self._lock:
            return [key for key, _ in self._engines]

    def close(self) -> None:
        """Unload everything."""
        with self._lock, self._server_lock:
            for engines in (self._engines, self._parked, self._servers):
                while engines:
                    engines.popitem()[1].engine.close()

    def _load(self, model_key: str, config: ModelConfig, later: Sequence[str]) -> Engine:
        start = time.perf_counter()
        weights = ensure_weights(config.source, self._cache_dir, config.revision, model_key)
        self._make_room(self._need((model_key, config), weights), config, later)
        engine = self._open(model_key, config, weights, later)
        load = _load_of(model_key, engine, weights, time.perf_counter() - start)
        return self._hold(config, engine, load)

    def _open(
        self, model_key: str, config: ModelConfig, weights: WeightsInfo, later: Sequence[str]
    ) -> Engine:
        return self._fitted(lambda: open_engine(model_key, config, weights), config, later)

    def _fitted(
        self, attempt: "Callable[[], _T]", config: ModelConfig, later: Sequence[str]
    ) -> "_T":
        """Where the prediction was too low another model leaves, and it is tried again."""
        device = choose_device(config.device)
        while True:
            try:
                return attempt()
            except Exception as error:
                if not (out_of_memory(error) and self._leavable(device)):
                    raise
                _log.warning("%s did not fit: %s", config.source, error)
            self._evict(later, device)

    def _need(self, key: "_Key", weights: WeightsInfo) -> MemoryNeed:
        if key not in self._needs:
            on_gpu = choose_device(key[1].device).type == "cuda"
            self._needs[key] = memory_need(weights, key[1], _width(key[1]), on_gpu)
        return self._needs[key]

    def _server(self, model_key: str, config: ModelConfig) -> Engine:
        with self._server_lock:
            held = self._servers.get((model_key, config))
            if held is None:
                start = time.perf_counter()
                engine = connect_engine(model_key, config)
                load = _connection(model_key, engine, time.perf_counter() - start)
                held = self._servers[model_key, config] = _Held(engine, load)
                self._note(load)
            return held.engine

    def _resume(
        self, model_key: str, config: ModelConfig, parked: "_Held", later: Sequence[str]
    ) -> Engine:
        start = time.perf_counter()
        self._make_room(self._needs[model_key, config], config, later)
        try:
            self._fitted(parked.engine.resume, config, later)
        except BaseException:
            parked.engine.close()
            raise
        seconds = time.perf_counter() - start
        return self._hold(config, parked.engine, replace(parked.load, seconds=seconds, tier="host"))

    def _hold(self, config: ModelConfig, engine: Engine, load: ModelLoad) -> Engine:
        self._engines[load.model, config] = _Held(engine, load)
        self._note(load)
        return engine

    def _note(self, load: ModelLoad) -> None:
        self.loads.append(load)
        _log.info(
            "loaded %s: %s (%s), %.0f MB in %.1f s from %s",
            *(load.model, load.dtype, load.dtype_reason, load.bytes / 1e6, load.seconds, load.tier),
        )

    def _make_room(self, need: MemoryNeed, config: ModelConfig, later: Sequence[str]) -> None:
        """Evict until it fits into the budget, or into the device's free memory.

        vLLM takes the whole device: it sizes itself by what is free when it starts.
        """
        device = choose_device(config.device)
        self._trim(device)
        alone = config.engine == "vllm"
        while self._leavable(device) and (alone or not self._fits(need, device)):
            self._evict(later, device)

    def _trim(self, device: "torch.device", keep: "_Key | None" = None) -> None:
        """Free what the models of the device work in, all but one's."""
        for key in self._leavable(device):
            if key != keep:
                self._engines[key].engine.trim()

    def _fits(self, need: MemoryNeed, device: "torch.device") -> bool:
        if self._budget is not None:
            used = sum(held.load.bytes for held in self._engines.values())
            return used + need.weights <= self._budget
        return need.total <= free_memory(str(device))

    def _leavable(self, device: "torch.device") -> "list[_Key]":
        """Models whose leaving would free memory of the device."""
        return [key for key in self._engines if choose_device(key[1].device) == device]

    def _evict(self, later: Sequence[str], device: "torch.device") -> None:
        key = farthest(self._leavable(device), later)
        held = self._engines.pop(key)
        self.evictions += 1
        if (seen := held.engine.workspace_seen) is not None and key in self._needs:
            self._needs[key] = replace(
                self._needs[key], keys_values=0, workspace=int(seen * _SEEN_MARGIN)
            )
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


def _load_of(model_key: str, engine: Engine, weights: WeightsInfo, seconds: float) -> ModelLoad:
    return ModelLoad(
        model=model_key,
        seconds=seconds,
        bytes=engine.memory_bytes,
        tier="converted" if weights.converted else "disk",
        dtype=engine.dtype.name,
        dtype_reason=engine.dtype.reason,
        sha256=weights.sha256,
    )


def _connection(model_key: str, engine: Engine, seconds: float) -> ModelLoad:
    return ModelLoad(
        model=model_key,
        seconds=seconds,
        bytes=0,
        tier=SERVER,
        dtype=engine.dtype.name,
        dtype_reason=engine.dtype.reason,
        sha256="",
    )


def _width(config: ModelConfig) -> int:
    """Bytes a parameter in the dtype that the model will have."""
    return 4 if choose_dtype(config.dtype, choose_device(config.device)).name == "float32" else 2


def free_memory(device: str) -> int:
    """Bytes that a new model may take on the device."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    return memory().available
