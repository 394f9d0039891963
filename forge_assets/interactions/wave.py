"""The wave: one residency of a model drains all its ready work before the next model is loaded."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

from forge_assets.interactions.budget import Budget
from forge_assets.interactions.clerk import Clerk, Tally, WorkOrder, patiently
from forge_assets.interactions.made import Made
from resources.gpu.engines.base import Engine, GenerationRequest
from resources.interaction_store import InteractionStore, OpenWork

BATCHES_AHEAD = 4
"""Batches handed to the engine at once: enough to sort by prefix and length, few enough to lose little."""
_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class WaveOutcome:
    """How the wave ended."""

    tally: Tally
    halted: str | None
    """Why it stopped claiming before the work was done, if it did."""
    cache: Mapping[str, Any] = field(default_factory=dict)
    """What the model cache did for it."""


@dataclass(frozen=True)
class WaveHooks:
    """What the wave asks of its surroundings."""

    engine: Callable[[str], Engine]
    """The model's engine, loaded if need be."""
    last_batches: Callable[[str], AbstractContextManager[None]]
    """Entered while the last claimed work of a model is generated: the time to fetch the next one."""
    left: Callable[[str, Made, float], None]
    """Told what a residency made, and its seconds from the engine's readiness to the last answer."""
    resident: Callable[[], Collection[str]]
    heartbeat: Callable[[], None]
    breach: Callable[[], str | None]
    """A machine limit that has been broken for too long, or None."""
    progress: Callable[[str, Tally], None]
    waiting: Callable[[OpenWork], None]
    """Told once a second while nothing is ready."""
    reclaim_dead: Callable[[], int]
    group_wait: float
    """Seconds after which a model gives way to another whose work is ready."""
    awaited: Callable[[], frozenset[str]]
    """The steps that somebody in this process works on: their ends may make more ready."""
    moved: Callable[[], None]
    """Told after every commit."""
    pause: Callable[[float], None]
    """Waits so many seconds at most, less when a commit of this process may have made more ready."""
    budget: Budget
    """Of all workers of the run."""
    batches_ahead: float = BATCHES_AHEAD
    """How many batches the engine gets at once; as many again are claimed meanwhile. Workers at servers
    share them: what is not claimed is there for others who join."""


def run_wave(store: InteractionStore, order: WorkOrder, hooks: WaveHooks) -> WaveOutcome:
    """Works until nothing that is awaited is ready, running or waiting for a retry."""
    clerk = Clerk(store, order, heartbeat=hooks.heartbeat, budget=hooks.budget, moved=hooks.moved)
    turns = Turns()
    gave_way: str | None = None
    halted: str | None = None

    def ready_models() -> Mapping[str, int]:
        return patiently(lambda: store.ready_models(order.scope, order.steps, order.subject_ids))

    try:
        while True:
            halted = hooks.breach()
            if halted or clerk.budget_spent:
                break
            ready = ready_models()
            if ready:
                model = turns.next(ready, hooks.resident(), gave_way)
                patience = Patience(model, hooks.group_wait, ready_models)
                claimed = clerk.tally.claimed
                halted = _drain(clerk, model, hooks, patience)
                gave_way = model if patience.spent else None
                if clerk.tally.claimed == claimed and not halted:
                    # Others hold what is ready, or what is left of the budget.
                    hooks.pause(_POLL_SECONDS)
            elif not _wait_for_work(store, order, hooks, ready_models):
                break
    except BaseException:
        # Whatever the clerk meets now, an interrupt stays one.
        with suppress(Exception):
            clerk.close()
        raise
    clerk.close()
    return WaveOutcome(clerk.tally, halted)


def choose_model(ready: Mapping[str, int], resident: Collection[str]) -> str:
    """What is loaded first, then what has the most to do; the name breaks ties."""
    return min(ready, key=lambda model: (model not in resident, -ready[model], model))


class Turns:
    """Whose turn it is."""

    def __init__(self) -> None:
        self._count = 0
        self._last: dict[str, int] = {}

    def next(
        self, ready: Mapping[str, int], resident: Collection[str], gave_way: str | None
    ) -> str:
        """After a model that ``gave_way``: of the others, the one whose turn is longest ago."""
        others = [model for model in ready if model != gave_way]
        if gave_way is not None and others:
            model = min(others, key=lambda name: (self._last.get(name, -1), -ready[name], name))
        else:
            model = choose_model(ready, resident)
        self._count += 1
        self._last[model] = self._count
        return model


class Patience:
    """How long the others wait for the present model."""

    def __init__(
        self,
        model: str,
        seconds: float,
        ready_models: Callable[[], Mapping[str, int]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model = model
        self._ready_models = ready_models
        self._clock = clock
        self._look_at = clock() + seconds
        self.spent = False

    def over(self) -> bool:
        """Whether the time is up and work for another model is ready."""
        if not self.spent and self._clock() >= self._look_at:
            self._look_at = self._clock() + _POLL_SECONDS
            self.spent = any(model != self._model for model in self._ready_models())
        return self.spent


def _drain(clerk: Clerk, model: str, hooks: WaveHooks, patience: Patience) -> str | None:
    """Generates until the model has nothing ready, others waited too long, or a limit is broken.

    Returns that limit. Claiming stops at once then, generating with the batch that is in flight.
    """
    # Claimed before the model is loaded: throughput counts the load.
    clerk.open(model, window=1, suspects=False)
    engine = hooks.engine(model)
    busy, began = 0.0, time.monotonic()
    window = max(1, round(engine.max_batch * hooks.batches_ahead))
    clerk.open(model, window)
    broken: str | None = None
    while not broken and (requests := clerk.take(window)):
        last = len(requests) < window
        with hooks.last_batches(model) if last else nullcontext():
            broken = _generate(clerk, model, engine, requests, hooks)
            busy += time.monotonic() - began
        began = time.monotonic()
        if patience.over():
            # What is claimed already is still made here.
            clerk.open(model, window=0)
    hooks.left(model, clerk.take_made(), busy)
    return broken


def _generate(
    clerk: Clerk,
    model: str,
    engine: Engine,
    requests: Sequence[GenerationRequest],
    hooks: WaveHooks,
) -> str | None:
    """Hands every completion on; the limit that was broken meanwhile, if one was."""
    broken = batch = None
    for completion in engine.generate(requests):
        clerk.put(completion)
        hooks.progress(model, clerk.tally)
        current = completion.provenance.get("batch_id")
        if broken is None and (broken := hooks.breach()):
            clerk.open(model, window=0)
            batch = current
        elif broken and current != batch:
            break
    return broken


def _wait_for_work(
    store: InteractionStore,
    order: WorkOrder,
    hooks: WaveHooks,
    ready_models: Callable[[], Mapping[str, int]],
) -> bool:
    """Whether something may become ready: a retry that waits, or work in other hands."""
    patiently(hooks.reclaim_dead)
    # Nothing is in flight here: what still is ours was claimed by a call whose answer was lost.
    patiently(lambda: store.hand_back(order.run_id))
    patiently(lambda: store.reclaim_expired(order.scope))
    work = patiently(
        lambda: store.open_work(
            order.scope, hooks.awaited(), order.subject_ids, run_id=order.run_id
        )
    )
    if not (work.ready or work.waiting_retry or work.running_here or work.running_elsewhere):
        return False
    if not ready_models():
        hooks.waiting(work)
        hooks.pause(_POLL_SECONDS)
    return True
