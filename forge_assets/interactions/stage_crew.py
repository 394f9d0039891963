"""Who works on a stage: one worker for the models of this machine, several for those of servers."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock

from forge_assets.interactions import presence
from forge_assets.interactions.budget import Budget
from forge_assets.interactions.clerk import Tally, WorkOrder, patiently
from forge_assets.interactions.crew import Crew, Ended, Worker
from forge_assets.interactions.progress import Progress
from forge_assets.interactions.stage_models import StageModels
from forge_assets.interactions.wave import BATCHES_AHEAD, WaveHooks, WaveOutcome
from forge_assets.project import WorkflowPlan
from forge_assets.stages import Stage
from resources.interaction_store import EndState, InteractionStore, OpenWork
from resources.worker_ids import worker_id

_BEAT_EVERY_SECONDS = 4.0
"""Each worker asks for it every 5 s."""
_RECLAIM_EVERY_SECONDS = 1.0
SERVER_WORKERS = 5
"""Unless the stage or the command says otherwise."""


@dataclass(frozen=True)
class Share:
    """What one worker works on."""

    steps: frozenset[str]
    here: bool
    """Whether their models are on this machine."""


def shares(plan: WorkflowPlan, steps: Collection[str], workers: int) -> list[Share]:
    """The share of each worker.

    The models of this machine are one worker's: a device does one batch at a time, and several
    claimers would only make its batches smaller. ``workers`` share what servers do.
    """
    models = plan.project.config.models
    chosen = [step for step in plan.ordered if step.name in steps]
    served = frozenset(step.name for step in chosen if models[step.model].served)
    local = frozenset(steps) - served
    at_servers = [Share(served, here=False)] * (workers if served else 0)
    return ([Share(local, here=True)] if local else []) + at_servers


def worker_count(stage: Stage, asked: int | None) -> int:
    """Of the workers for servers: as the command says, else the stage, else the default."""
    return asked or stage.workers or SERVER_WORKERS


class StageCrew:
    """Makes the workers of one run and has them work."""

    def __init__(
        self,
        store: InteractionStore,
        order: WorkOrder,
        models: StageModels,
        progress: Progress,
        say: Callable[[str], None],
        *,
        heartbeat: Callable[[], None],
        breach: Callable[[], str | None],
        reclaim_dead: Callable[[], int],
        group_wait: float,
    ) -> None:
        self._store = store
        self._order = order
        self._models = models
        self._progress = progress
        self._heartbeat = heartbeat
        self._breach = breach
        self._reclaim_dead = reclaim_dead
        self._group_wait = group_wait
        self._beating = Lock()
        self._beat_at = 0.0
        self._telling = Lock()
        self._reclaiming = Lock()
        self._reclaim_at = 0.0
        self._at_servers = 0
        self._crew = Crew(store, Budget(order.max_interactions), say)

    def work(self, shares: Collection[Share]) -> WaveOutcome:
        """One worker for each share."""
        self._at_servers = sum(not share.here for share in shares)
        workers = [self._worker(n, share) for n, share in enumerate(shares, start=1)]
        return self._crew.run(workers)

    def _worker(self, number: int, share: Share) -> Worker:
        """The first works under the run's own id; each other is a run of its own in the store, so
        that its leases and its working time are its own."""
        run_id = worker_id(self._order.run_id, number)
        order = replace(self._order, run_id=run_id, steps=share.steps, here=share.here)
        ended: Ended = _nothing
        if number > 1:
            patiently(partial(presence.announce, self._store, run_id, order.scope))
            ended = partial(self._store.end_run, run_id, order.scope)

        def progress(model: str, tally: Tally) -> None:
            worker.tally = tally
            # Not a heartbeat's lock: an engine must not wait for another worker's.
            with self._telling:
                self._progress(model, self._crew.tally())

        worker = Worker(order, self._hooks(share, progress), ended)
        return worker

    def _hooks(self, share: Share, progress: Callable[[str, Tally], None]) -> WaveHooks:
        crew = self._crew
        return WaveHooks(
            engine=self._models.engine,
            last_batches=self._models.last_batches,
            left=self._models.left,
            # Who asks servers does not wait for a load, which holds the cache.
            resident=self._models.resident if share.here else tuple,
            heartbeat=self._beat_now_and_then,
            breach=lambda: self._breach() or crew.stopping(),
            progress=progress,
            waiting=self._tell_waiting,
            reclaim_dead=self._reclaim_now_and_then,
            group_wait=self._group_wait,
            batches_ahead=BATCHES_AHEAD / (1 if share.here else self._at_servers),
            awaited=crew.awaited,
            moved=crew.moved,
            pause=crew.pause,
            budget=crew.budget,
        )

    def _reclaim_now_and_then(self) -> int:
        """Once a second for all workers, and not in the way of a heartbeat."""
        with self._reclaiming:
            if time.monotonic() < self._reclaim_at:
                return 0
            self._reclaim_at = time.monotonic() + _RECLAIM_EVERY_SECONDS
            return self._reclaim_dead()

    def _beat_now_and_then(self) -> None:
        """The run's heartbeat, by whichever worker comes first; nobody waits for one that hangs."""
        if not self._beating.acquire(blocking=False):
            return
        try:
            if time.monotonic() >= self._beat_at:
                self._heartbeat()
                self._beat_at = time.monotonic() + _BEAT_EVERY_SECONDS
        finally:
            self._beating.release()

    def _tell_waiting(self, work: OpenWork) -> None:
        with self._telling:
            self._progress.waiting(work)


def _nothing(state: EndState, reason: str | None = None) -> None:
    """The run's own row is closed by the run."""
