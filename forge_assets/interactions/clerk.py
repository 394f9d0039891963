"""The clerk: one thread that claims, renders and commits while the engine generates."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TypeVar

from forge_assets.interactions.answer_times import AnswerTimes
from forge_assets.interactions.attempt import conclude, prepare
from forge_assets.interactions.budget import Budget
from forge_assets.interactions.made import Made
from forge_assets.interactions.output_lengths import OutputLengths
from forge_assets.workflow.plan import advance
from forge_assets.workflow.plan import ancestors as ancestors_of
from forge_assets.workflow.spec import Workflow
from resources.gpu.engines.base import Completion, GenerationRequest
from resources.interaction import Claim, Result, StepState, Transition
from resources.interaction_store import (
    CommitReport,
    InteractionStore,
    SlowAnswers,
    StageScope,
    with_retries,
)

_HEARTBEAT_SECONDS = 5.0
DATABASE_PATIENCE_SECONDS = 120.0
LEASE_SECONDS = DATABASE_PATIENCE_SECONDS + 30.0
"""Renewed by every heartbeat; nobody who waits for the database loses it meanwhile."""
_log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class WorkOrder:
    """What one worker may work on. Its ``run_id`` is that of no other."""

    scope: StageScope
    workflow: Workflow
    run_id: str
    steps: frozenset[str]
    versions: Mapping[str, str]
    """Of every step of the workflow, as this run has planned the stage."""
    subject_ids: frozenset[int] | None = None
    """None is every subject of the stage."""
    max_interactions: int | None = None
    earlier_lengths: Mapping[str, float] = field(default_factory=dict)
    """Output tokens of an answer by step, as earlier runs had them."""
    earlier_times: Mapping[str, SlowAnswers] = field(default_factory=dict)
    """By step."""
    here: bool = True
    """Whether the models work on this machine: then an interaction may be what ends the worker."""


@dataclass
class Tally:
    """What was done, counted where it is committed."""

    claimed: int = 0
    committed: int = 0
    finished: int = 0
    refused: int = 0
    skipped: int = 0
    tokens: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            *(getattr(self, each.name) + getattr(other, each.name) for each in fields(Tally))
        )


@dataclass(slots=True)
class _InFlight:
    claim: Claim
    request: GenerationRequest
    since: float
    """When it was claimed (time.monotonic)."""
    given_up: bool = False


class Clerk:
    """Keeps the engine supplied: the caller takes requests, puts completions, and never waits for SQL.

    Everything claimed is committed or handed back by the time ``close`` returns.
    """

    def __init__(
        self,
        store: InteractionStore,
        order: WorkOrder,
        *,
        heartbeat: Callable[[], None],
        budget: Budget,
        moved: Callable[[], None],
    ) -> None:
        """``moved`` is told that a commit made more interactions ready."""
        self.tally = Tally()
        self._store = store
        self._order = order
        self._heartbeat = heartbeat
        self._budget = budget
        self._moved = moved
        self._times = AnswerTimes(order.earlier_times)
        self._lengths = OutputLengths(order.earlier_lengths)
        self._made = Made()
        self._steps = {step.name: step for step in order.workflow.steps}
        self._ancestors = ancestors_of(order.workflow)
        self._changed = threading.Condition()
        self._ready: deque[tuple[Claim, GenerationRequest]] = deque()
        self._in_flight: dict[int, _InFlight] = {}
        self._suspects = False
        self._finished: list[Completion] = []
        self._model: str | None = None
        self._window = 0
        self._dry = True
        self._busy = False
        self._closing = False
        self._error: BaseException | None = None
        self._next_beat = 0.0
        self._thread = threading.Thread(target=self._run, name="clerk", daemon=True)
        self._thread.start()

    # the caller's side

    def open(self, model: str, window: int, *, suspects: bool = True) -> None:
        """Starts to claim for ``model``, up to ``window`` requests ahead of the engine.

        ``suspects``: also what workers were lost with, one at a time when there is nothing else.
        """
        with self._changed:
            self._model, self._window, self._dry = model, window, False
            self._suspects = suspects
            self._changed.notify_all()

    def take(self, limit: int) -> list[GenerationRequest]:
        """Up to ``limit`` requests; empty when the model has nothing left to do.

        Waits for what was put to be committed, since that may make more interactions ready.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._error or len(self._ready) >= limit or self._idle())
            self._raise_error()
            count = min(limit, len(self._ready))
            return [self._ready.popleft()[1] for _ in range(count)]

    def put(self, completion: Completion) -> None:
        with self._changed:
            self._raise_error()
            self._finished.append(completion)
            self._changed.notify_all()

    def take_made(self) -> Made:
        """What was answered since the last call; nothing is missing once ``take`` gave nothing."""
        with self._changed:
            made, self._made = self._made, Made()
            return made

    @property
    def budget_spent(self) -> bool:
        return self._budget.spent

    def close(self) -> None:
        """Commits what was put and hands back every other claim."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        if self._error is None:
            run_id = self._order.run_id
            patiently(lambda: self._store.hand_back(run_id))
        self._raise_error()

    # the thread's side

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except BaseException as error:  # handed to the caller, which raises it
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _turn(self) -> bool:
        with self._changed:
            self._busy = False
            self._changed.notify_all()
            self._changed.wait_for(self._has_work, timeout=_HEARTBEAT_SECONDS)
            finished, self._finished = self._finished, []
            if self._closing and not finished:
                return False
            model = None if self._closing else self._model
            want = self._window - len(self._ready) if self._wants_claims() else 0
            self._busy = bool(finished or want)
        self._beat()
        # What is not in flight any more has lost its lease, and its result has been refused.
        finished = [each for each in finished if each.request_id in self._in_flight]
        if finished:
            self._commit([self._conclude(completion) for completion in finished])
        if model is not None and want > 0:
            self._claim(model, want)
        return True

    def _has_work(self) -> bool:
        return bool(self._finished) or self._closing or self._wants_claims()

    def _wants_claims(self) -> bool:
        open_for_more = self._model is not None and not self._dry and not self.budget_spent
        return open_for_more and len(self._ready) < self._window

    def _idle(self) -> bool:
        return not (self._finished or self._busy or self._wants_claims())

    def _beat(self) -> None:
        if time.monotonic() < self._next_beat:
            return
        self._next_beat = time.monotonic() + _HEARTBEAT_SECONDS
        patiently(self._heartbeat)
        patiently(lambda: self._store.fold_tallies(self._order.scope.dataset))
        ids = self._still_expected()
        if ids:
            order = self._order
            patiently(lambda: self._store.extend_leases(order.run_id, ids, LEASE_SECONDS))

    def _still_expected(self) -> list[int]:
        """What is in flight, less what has had no answer for too long: its lease runs out."""
        now, ids = time.monotonic(), []
        for interaction_id, work in self._in_flight.items():
            timeout = self._times.timeout(work.claim.step)
            if now - work.since <= timeout:
                ids.append(interaction_id)
            elif not work.given_up:
                work.given_up = True
                _log.warning(
                    "interaction %d (step %s) has had no answer for %.0f s: whoever works on the"
                    " stage may take it when its lease ends",
                    *(interaction_id, work.claim.step, timeout),
                )
        return ids

    def _claim(self, model: str, want: int) -> None:
        here = self._order.here
        claims = self._claim_rows(model, want, suspects=False if here else None)
        dry = len(claims) < want
        if here and not claims and self._suspects and not self._in_flight:
            claims = self._claim_rows(model, 1, suspects=True)
        prepared: list[tuple[Claim, GenerationRequest]] = []
        ended: list[Result] = []
        for claim in claims:
            request = prepare(self._steps[claim.step], claim, suspect=here)
            if isinstance(request, Result):
                ended.append(request)
            else:
                expected = self._lengths.expected(claim.step, request.max_new_tokens)
                prepared.append((claim, replace(request, expected_tokens=expected)))
        self.tally.claimed += len(claims)
        now = time.monotonic()
        with self._changed:
            for claim, request in prepared:
                held = self._in_flight.get(claim.interaction_id)
                if held is None:
                    self._in_flight[claim.interaction_id] = _InFlight(claim, request, now)
                    self._ready.append((claim, request))
                else:
                    # Its lease had ended here: what the engine still makes of it is for the new one.
                    held.claim, held.since, held.given_up = claim, now, False
            self._dry = dry
        if ended:
            self._commit(ended)

    def _claim_rows(self, model: str, want: int, suspects: bool | None) -> list[Claim]:
        reserved = self._budget.reserve(want)
        if not reserved:
            return []
        claims: list[Claim] = []
        try:
            claims = patiently(lambda: self._claim_now(model, reserved, suspects))
        finally:
            self._budget.claimed(reserved, [claim.interaction_id for claim in claims])
        return claims

    def _claim_now(self, model: str, limit: int, suspects: bool | None) -> list[Claim]:
        order = self._order
        return self._store.claim(
            order.scope,
            model,
            run_id=order.run_id,
            limit=limit,
            lease_seconds=LEASE_SECONDS,
            steps=order.steps,
            subject_ids=order.subject_ids,
            ancestors_of=self._ancestors,
            suspects=suspects,
            versions=order.versions,
        )

    def _conclude(self, completion: Completion) -> Result:
        work = self._in_flight[completion.request_id]
        claim, request = work.claim, work.request
        if completion.error is None:
            self._made.add(claim.step, completion)
            self._times.learn(claim.step, time.monotonic() - work.since)
            self._lengths.learn(claim.step, completion.output_tokens)
        return conclude(self._steps[claim.step], claim, request, completion)

    def _commit(self, results: list[Result]) -> None:
        order = self._order
        report: CommitReport = patiently(
            lambda: self._store.commit(order.run_id, results, self._advance)
        )
        self.tally.committed += report.committed
        self.tally.refused += len(report.refused)
        self.tally.skipped += report.skipped
        refused = set(report.refused)
        self.tally.finished += sum(
            result.status.final and result.interaction_id not in refused for result in results
        )
        self.tally.tokens += sum(result.output_tokens for result in results)
        if report.refused:
            _log.warning("refused late results of interactions %s", list(report.refused))
        with self._changed:
            for result in results:
                self._in_flight.pop(result.interaction_id, None)
            self._dry = False
        if report.newly_ready:
            self._moved()

    def _advance(self, states: Mapping[str, StepState]) -> Mapping[str, Transition]:
        return advance(self._order.workflow, states)

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error


def patiently(call: Callable[[], T]) -> T:
    """A store call, repeated while the database is away, then InfrastructureError."""
    return with_retries(call, seconds=DATABASE_PATIENCE_SECONDS)
