"""The models of one run: chosen, loaded, fetched ahead, and what each residency made, noted."""

import time
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from threading import Lock
from typing import Any

from forge_assets.console import Say
from forge_assets.interactions.clerk import DATABASE_PATIENCE_SECONDS, WorkOrder, patiently
from forge_assets.interactions.engine_choice import EngineChooser
from forge_assets.interactions.fetch_ahead import fetching_ahead
from forge_assets.interactions.made import Made
from forge_assets.project import WorkflowPlan, naming_forge_yaml
from resources.gpu.engines.base import Engine
from resources.gpu.model_cache import SERVER, ModelLoad
from resources.gpu.model_config import ModelConfig
from resources.gpu.resource import GpuResource
from resources.interaction_store import InteractionStore, Residency, with_retries


@dataclass(frozen=True)
class CacheCounters:
    """What the model cache did for one run; ``tiers`` counts loads by where the weights came from."""

    loads: int = 0
    evictions: int = 0
    seconds: float = 0.0
    bytes: int = 0
    tiers: Mapping[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class _Stay:
    """What all workers made of one model at a server, and when they did."""

    made: Made = field(default_factory=Made)
    spans: list[tuple[float, float]] = field(default_factory=list)

    @property
    def busy_seconds(self) -> float:
        """While at least one worker waited for answers."""
        total, until = 0.0, float("-inf")
        for start, end in sorted(self.spans):
            total += max(0.0, end - max(start, until))
            until = max(until, end)
        return total


class StageModels:
    """Of all workers of a run, each in its thread; ``fetching_ahead`` has one of its own."""

    def __init__(
        self,
        plan: WorkflowPlan,
        store: InteractionStore,
        order: WorkOrder,
        gpu: GpuResource,
        chooser: EngineChooser,
        say: Say,
    ) -> None:
        self._plan = plan
        self._store = store
        self._order = order
        self._gpu = gpu
        self._chooser = chooser
        self._say = say
        self._told = len(gpu.loads())
        self._evictions = gpu.evictions()
        self._loads: list[ModelLoad] = []
        self._started: dict[str, float] = {}
        """Seconds of a model's load, until its residency is noted."""
        self._stays: dict[str, _Stay] = {}
        self._lock = Lock()

    def engine(self, model: str) -> Engine:
        """The model's engine; loads that were brought about are noted in the store."""
        with naming_forge_yaml(self._plan.project.config):
            engine = self._gpu.engine(model, self._config(model), later=self._needed_later())
        with self._lock:
            # Another worker's load may be among them: each model is told by whoever sees it first.
            new = self._gpu.loads()[self._told :]
            self._told += len(new)
            self._started |= {load.model: load.seconds for load in new if load.tier != SERVER}
        for load in new:
            if load.tier == SERVER:
                continue
            self._say(
                f"loaded {load.model} as {load.dtype} ({load.dtype_reason}):"
                f" {load.bytes / 1e6:.0f} MB in {load.seconds:.1f} s, from {load.tier}"
            )
            self._loads.append(load)
            row = (self._order.run_id, load.model, load.seconds, load.bytes, load.tier)
            patiently(partial(self._store.add_load, *row))
        return engine

    def resident(self) -> list[str]:
        """Keys of the models that are on their devices."""
        return self._gpu.resident()

    def last_batches(self, model: str) -> AbstractContextManager[None]:
        """Meanwhile the next model is brought nearer, if nothing must leave for it.

        Not while a CPU generates: the load would take its time (measured: a tenth slower).
        """
        config = self._config(model)
        if not config.served and self._gpu.device(config) == "cpu":
            return nullcontext()
        return fetching_ahead(model, self._ready_here, self._fetch)

    def left(self, model: str, made: Made, busy_seconds: float) -> None:
        """Notes what the residency made and took, beside what had been predicted.

        What the workers made of a model at a server is one residency, noted by ``close``.
        """
        if not made.answers:
            return
        if self._config(model).served:
            now = time.monotonic()
            with self._lock:
                stay = self._stays.setdefault(model, _Stay())
                stay.made += made
                stay.spans.append((now - busy_seconds, now))
            return
        self._note(model, made, busy_seconds)

    def close(self, patience: float = DATABASE_PATIENCE_SECONDS) -> None:
        """Notes what the workers made of models at servers. ``patience``: seconds for the database."""
        with self._lock:
            stays, self._stays = self._stays, {}
        for model, stay in stays.items():
            self._note(model, stay.made, stay.busy_seconds, patience)

    def _note(
        self,
        model: str,
        made: Made,
        busy_seconds: float,
        patience: float = DATABASE_PATIENCE_SECONDS,
    ) -> None:
        choice = self._chooser.choose(model, self._left)
        memory = self._gpu.memory(model, self._config(model))
        residency = Residency(
            run_id=self._order.run_id,
            model=model,
            definition=self._chooser.definition(model),
            engine=choice.engine,
            device=self._chooser.device(model),
            start_seconds=self._started.pop(model, 0.0),
            busy_seconds=busy_seconds,
            interactions=made.answers,
            prompt_tokens=made.prompt_tokens,
            output_tokens=made.output_tokens,
            reason=choice.reason,
            steps=made.steps,
            memory_predicted=memory.predicted,
            memory_seen=memory.seen,
            predicted_seconds=choice.forecast.seconds if choice.forecast else None,
        )
        with_retries(lambda: self._store.add_residency(residency), seconds=patience)

    def counters(self) -> CacheCounters:
        """Of this run so far."""
        return CacheCounters(
            loads=len(self._loads),
            evictions=self._gpu.evictions() - self._evictions,
            seconds=sum(load.seconds for load in self._loads),
            bytes=sum(load.bytes for load in self._loads),
            tiers=dict(Counter(load.tier for load in self._loads)),
        )

    def _fetch(self, model: str) -> None:
        with naming_forge_yaml(self._plan.project.config):
            self._gpu.fetch(model, self._config(model))

    def _config(self, model: str) -> ModelConfig:
        """As configured, with the engine that was chosen."""
        config = self._plan.project.config.models[model]
        choice = self._chooser.choose(model, self._left)
        return config.model_copy(update={"engine": choice.engine})

    def _left(self) -> dict[str, int]:
        """Interactions of the order that have not ended, by step; at most, where it is limited."""
        order = self._order
        counts = patiently(lambda: self._store.step_counts(order.scope))
        left = {row.step: row.pending + row.running for row in counts if row.step in order.steps}
        if order.subject_ids is not None:
            left = {step: min(count, len(order.subject_ids)) for step, count in left.items()}
        total = sum(left.values())
        if order.max_interactions is not None and total > order.max_interactions:
            share = order.max_interactions / total
            left = {step: round(count * share) for step, count in left.items()}
        return left

    def _ready(self) -> dict[str, int]:
        order = self._order
        return dict(
            patiently(lambda: self._store.ready_models(order.scope, order.steps, order.subject_ids))
        )

    def _ready_here(self) -> dict[str, int]:
        """Without the models at servers."""
        return {model: n for model, n in self._ready().items() if not self._config(model).served}

    def _needed_later(self) -> list[str]:
        """Models with work left in the stage: those with work ready now, then as the steps come."""
        order = self._order
        ready = self._ready()
        left = patiently(
            lambda: self._store.open_models(order.scope, order.steps, order.subject_ids)
        )
        place = {step.model: -n for n, step in enumerate(reversed(self._plan.ordered))}
        return sorted(left, key=lambda key: (key not in ready, place.get(key, 1)))
