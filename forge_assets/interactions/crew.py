"""The workers of one run: each drains its own share of the work in a thread, and none needs another."""

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from sqlalchemy.exc import SQLAlchemyError

from forge_assets.interactions.budget import Budget
from forge_assets.interactions.clerk import Tally, WorkOrder, patiently
from forge_assets.interactions.wave import WaveHooks, WaveOutcome, run_wave
from resources.errors import ForgeError, InfrastructureError
from resources.interaction_store import EndState, InteractionStore

_LOOK_EVERY_SECONDS = 1.0
_CLAIM_SECONDS = 2.0
"""What an interruption waits for a claim: one that comes later is taken back by the next run."""
_log = logging.getLogger(__name__)


class Ended(Protocol):
    def __call__(self, state: EndState, reason: str | None = None) -> object: ...


@dataclass
class Worker:
    """One claimer: what it may claim, and how it ended."""

    order: WorkOrder
    hooks: WaveHooks
    ended: "Ended"
    """Told when it has ended."""
    tally: Tally = field(default_factory=Tally)
    outcome: WaveOutcome | None = None
    error: Exception | None = None
    over: bool = False


class Crew:
    """Runs the workers of a run until the work is done. The first works in the caller's thread.

    An error in one is told, its claims are handed back, and the others go on; it is raised at the
    end if they left something undone.
    """

    def __init__(self, store: InteractionStore, budget: Budget, say: Callable[[str], None]) -> None:
        self.budget = budget
        self._store = store
        self._say = say
        self._workers: list[Worker] = []
        self._news = threading.Condition()
        self._told: set[str] = set()
        self._stopping = False

    # what the workers' hooks ask

    def awaited(self) -> frozenset[str]:
        """Steps of the workers that have not ended."""
        steps = [worker.order.steps for worker in self._workers if not worker.over]
        return frozenset().union(*steps)

    def moved(self) -> None:
        """A commit may have made more ready: whoever waits looks again."""
        with self._news:
            self._news.notify_all()

    def pause(self, seconds: float) -> None:
        with self._news:
            if not self._stopping:
                self._news.wait(seconds)

    def stopping(self) -> str | None:
        """A reason to stop, once the run is being ended."""
        return "the run is ending" if self._stopping else None

    def tally(self) -> Tally:
        """Of all workers so far."""
        return sum((worker.tally for worker in self._workers), Tally())

    # the run

    def run(self, workers: Sequence[Worker]) -> WaveOutcome:
        """Until every worker has ended. Raises what ended one, unless the others did its work."""
        self._workers = list(workers)
        first, others = self._workers[0], self._workers[1:]
        threads = [
            threading.Thread(
                target=self._work, args=(worker,), name=worker.order.run_id, daemon=True
            )
            for worker in others
        ]
        try:
            for thread in threads:
                thread.start()
            self._work(first)
            while any(thread.is_alive() for thread in threads):
                for thread in threads:
                    thread.join(_LOOK_EVERY_SECONDS)
        except BaseException:
            # Not waited for: an answer may take minutes. What they hold is handed back, and an
            # answer that still comes has lost its lease.
            self._stop()
            for worker in others:
                self._give_up(worker)
                with suppress(Exception):
                    worker.ended("cut_short", "interrupted")
            raise
        return self._outcome()

    def _work(self, worker: Worker) -> None:
        try:
            worker.outcome = run_wave(self._store, worker.order, worker.hooks)
            worker.tally = worker.outcome.tally
        except Exception as error:
            worker.error = error
            self._lose(worker, error)
        finally:
            worker.over = True
            self.moved()
        if worker.error is None:
            with suppress(Exception):  # its row is closed with the run's, or buried by the next
                worker.ended("finished")

    def _lose(self, worker: Worker, error: Exception) -> None:
        """What is done for it may fail for the same reason: then its leases run out."""
        reason = one_line(error)
        away = isinstance(error, InfrastructureError)
        # Once for a reason: while the database is away every line waits for it.
        if len(self._workers) > 1 and reason not in self._told:
            self._told.add(reason)
            with suppress(Exception):
                self._say(f"worker {worker.order.run_id} ended: {reason}; the others go on")
        if not self._stopping:
            self._give_up(worker, quietly=away)
        with suppress(Exception):
            worker.ended("failed", reason)

    def _give_up(self, worker: Worker, quietly: bool = False) -> None:
        """Hands its claims back; while the database is away they come back when their leases end."""
        try:
            self._store.hand_back(worker.order.run_id)
        except Exception as error:
            _log.log(
                logging.DEBUG if quietly else logging.WARNING,
                "the claims of %s wait for their leases: %s",
                *(worker.order.run_id, one_line(error)),
            )

    def _stop(self) -> None:
        with self._news:
            self._stopping = True
            self._news.notify_all()
        self.budget.close(_CLAIM_SECONDS)

    def _outcome(self) -> WaveOutcome:
        order = self._workers[0].order
        steps = frozenset().union(*(worker.order.steps for worker in self._workers))
        errors = [worker.error for worker in self._workers if worker.error is not None]
        if errors and len(errors) == len(self._workers):
            raise errors[0]
        work = patiently(lambda: self._store.open_work(order.scope, steps, order.subject_ids))
        if errors and work.total:
            raise errors[0]
        for error in errors:
            # Nobody will see where it came from, since the others have done the work.
            if not isinstance(error, ForgeError | SQLAlchemyError):
                _log.error("a worker ended by an error of its own", exc_info=error)
        outcomes = [worker.outcome for worker in self._workers if worker.outcome is not None]
        halted = next((outcome.halted for outcome in outcomes if outcome.halted), None)
        # What was broken in the last moment has stopped nothing.
        return WaveOutcome(self.tally(), halted if work.total else None)


def one_line(error: Exception) -> str:
    """What happened, without the statement that a database's error carries."""
    said = str(getattr(error, "orig", None) or error).strip()
    return said.splitlines()[0] if said else type(error).__name__
