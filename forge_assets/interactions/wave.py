"""The wave: one residency of a model drains all its ready work before the next model is loaded."""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from forge_assets.interactions.clerk import Clerk, Tally, WorkOrder, patiently
from resources.gpu.engines.base import Engine
from resources.interaction_store import InteractionStore, OpenWork

_BATCHES_AHEAD = 4
"""Batches handed to the engine at once: enough to sort by prefix and length, few enough to lose little."""
_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class WaveOutcome:
    """How the wave ended. ``open_work`` is what the order still leaves to do."""

    tally: Tally
    open_work: OpenWork
    halted: str | None
    """Why it stopped claiming before the work was done, if it did."""


@dataclass(frozen=True)
class WaveHooks:
    """What the wave asks of its surroundings."""

    engine: Callable[[str], Engine]
    """The model's engine, loaded if need be."""
    resident: Callable[[], Collection[str]]
    heartbeat: Callable[[], None]
    breach: Callable[[], str | None]
    """A machine limit that has been broken for too long, or None."""
    progress: Callable[[str, Tally], None]
    waiting: Callable[[OpenWork], None]
    """Told once a second while nothing is ready."""
    reclaim_dead: Callable[[], int]


def run_wave(store: InteractionStore, order: WorkOrder, hooks: WaveHooks) -> WaveOutcome:
    """Works until nothing of the order is ready, running or waiting for a retry."""
    clerk = Clerk(store, order, heartbeat=hooks.heartbeat)
    halted: str | None = None
    try:
        while True:
            halted = hooks.breach()
            if halted or clerk.budget_spent:
                break
            ready = patiently(
                lambda: store.ready_models(order.scope, order.steps, order.subject_ids)
            )
            if ready:
                halted = _drain(clerk, choose_model(ready, hooks.resident()), hooks)
            elif not _wait_for_work(store, order, hooks):
                break
    finally:
        clerk.close()
    work = patiently(lambda: store.open_work(order.scope, order.steps, order.subject_ids))
    return WaveOutcome(clerk.tally, work, halted)


def choose_model(ready: Mapping[str, int], resident: Collection[str]) -> str:
    """What is loaded first, then what has the most to do; the name breaks ties."""
    return min(ready, key=lambda model: (model not in resident, -ready[model], model))


def _drain(clerk: Clerk, model: str, hooks: WaveHooks) -> str | None:
    """Generates until the model has nothing ready, or until a limit of the machine is broken.

    Returns that limit. Claiming stops at once then, generating with the batch that is in flight.
    """
    # Claimed before the model is loaded: throughput counts the load.
    clerk.open(model, window=1)
    engine = hooks.engine(model)
    window = engine.max_batch * _BATCHES_AHEAD
    clerk.open(model, window)
    while requests := clerk.take(window):
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
        if broken:
            return broken
    return None


def _wait_for_work(store: InteractionStore, order: WorkOrder, hooks: WaveHooks) -> bool:
    """Whether something may become ready: a retry that waits, or work in other hands."""
    patiently(hooks.reclaim_dead)
    # Nothing is in flight here: what still is ours was claimed by a call whose answer was lost.
    patiently(lambda: store.reclaim_run(order.run_id))
    patiently(lambda: store.reclaim_expired(order.scope))
    work = patiently(lambda: store.open_work(order.scope, order.steps, order.subject_ids))
    if not (work.ready or work.waiting_retry or work.running_elsewhere):
        return False
    if not work.ready:
        hooks.waiting(work)
        time.sleep(_POLL_SECONDS)
    return True
