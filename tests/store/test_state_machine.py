"""Any order of calls: the store and a plain model of it must agree after every one.

``FORGE_FUZZ=20`` tries twenty times as many orders, for a night.
"""

import itertools
import os
from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from resources.database import create_engine
from resources.interaction import Claim, Result, Status
from resources.interaction_store import EndState, InteractionStore, StageScope, SubjectRecord
from tests.store.store_model import Model, Row, RunState, answer, decide, within
from tests.store.store_rows import ELSEWHERE, Event, check_rows, read
from tests.store.workshop import ANCESTORS, DESCENDANTS, NEEDS, execute, record

FUZZ = int(os.environ.get("FORGE_FUZZ", "1"))
STAGES = [("first", 0, 2), ("second", 2, 5)]
BEHIND = ("third", 5, 9)
WORKFLOWS = ("review", "audit")
NEVER_AN_ID = 0
RETRIED = (Status.COMPLETED, Status.REJECTED, Status.FAILED)

_past = (
    "UPDATE forge.interactions SET {column} = clock_timestamp() - interval '1 second'"
    " WHERE id = ANY(CAST(:ids AS bigint[]))"
)

scopes = st.sampled_from([0, 0, 0, 1, 1, 2, 3])
runs = st.sampled_from([0, 1, 2])
keys = st.sampled_from([f"key-{number}" for number in range(5)])
places = st.integers(0, 99)
picks = st.sets(st.integers(0, 7), min_size=1, max_size=4)
# Weighted by repetition: most answers are good, most texts stay.
outcomes = st.sampled_from(
    ["done", "done", "done", "done", ELSEWHERE, "rejected", "failed", "again", "later"]
)
tokens = st.sampled_from(["held", "held", "held", "any", "crossed", "unknown"])
T = TypeVar("T")
_datasets = (f"fuzz-{number}" for number in itertools.count())


def _at(choices: Sequence[T], place: int) -> T:
    return choices[place % len(choices)]


class StoreMachine(RuleBasedStateMachine):
    """Each example works in a dataset, and with runs, of its own."""

    url: ClassVar[str]
    reader: ClassVar[sa.Engine]

    def __init__(self) -> None:
        super().__init__()
        self.engine = create_engine(self.url)
        self.store = InteractionStore(self.engine)
        self.dataset = next(_datasets)
        self.scopes = [StageScope(self.dataset, w, *stage) for w in WORKFLOWS for stage in STAGES]
        self.runs = [f"{self.dataset}-run-{number}" for number in range(3)]
        self.edits = itertools.count(1)
        self.counted: dict[str, list[dict[str, int]]] = {}
        self.model = Model({w: {step: f"{step}-0" for step in NEEDS} for w in WORKFLOWS})
        self.handed: dict[int, int] = {}  # token -> interaction
        self.sent: dict[int, Result] = {}  # by token: what was sent first
        self.ended: dict[int, dict[str, Any]] = {}
        self.retired: dict[int, dict[str, Any]] = {}
        self.events: dict[int, str] = {}

    def teardown(self) -> None:
        self.engine.dispose()

    @initialize(
        count=st.integers(2, 4),
        rounds=st.integers(0, 3),
        results=st.lists(outcomes, min_size=1, max_size=6),
    )
    def begin(self, count: int, rounds: int, results: list[str]) -> None:
        """Some way into a stage already: most calls need something that has happened."""
        self.store.sync_stages(self.dataset, STAGES)
        self._ingest([record(f"key-{number}", text="a") for number in range(count)])
        for scope in self.scopes[:2]:
            self._plan(scope)
        self._register(self.runs[0], self.scopes[0])
        for _ in range(rounds):
            self.work(0, 0, results)

    @rule(source=st.lists(st.tuples(keys, st.sampled_from("aaab")), max_size=6))
    def ingest(self, source: list[tuple[str, str]]) -> None:
        self._ingest([record(key, text=text) for key, text in source])

    @rule(scope=scopes)
    def plan_stage(self, scope: int) -> None:
        self._plan(self.scopes[scope])

    @rule(scope=scopes, step=st.sampled_from(sorted(NEEDS)))
    def edit_a_step(self, scope: int, step: str) -> None:
        """A step's version covers its ancestors: the edit reaches its descendants."""
        versions = self.model.versions[self.scopes[scope].workflow]
        edit = next(self.edits)
        versions.update({name: f"{name}-{edit}" for name in (step, *DESCENDANTS[step])})
        self._plan(self.scopes[scope])

    @precondition(lambda self: self._ready())
    @rule(
        place=places,
        run=runs,
        limit=st.sampled_from([1, 2, 9]),
        steps=st.sampled_from([tuple(NEEDS), tuple(NEEDS), ("classify", "grade"), ("results",)]),
        other=st.integers(0, 5),
    )
    def claim(self, place: int, run: int, limit: int, steps: Sequence[str], other: int) -> None:
        """Where there is something to claim, but for once in a while the wrong model or kind."""
        scope, model, suspects = _at(self._ready(), place)
        model = "big" if other == 0 else model
        self._claim(scope, model, run, limit, steps, suspects is not (other == 1))

    @precondition(lambda self: self._ready())
    @rule(scope=scopes, run=runs, results=st.lists(outcomes, min_size=1, max_size=3))
    def work(self, scope: int, run: int, results: list[str]) -> None:
        """All that is ready, once: what brings an example to the last steps."""
        for model in ("small", "big"):
            held = self._claim(self.scopes[scope], model, run)
            endings = zip(held, itertools.cycle(results), strict=False)
            self._commit(run, [answer(c.interaction_id, c.token, end) for c, end in endings])

    @precondition(lambda self: self.handed)
    @rule(
        run=runs,
        batch=st.lists(st.tuples(tokens, places, outcomes), min_size=1, max_size=5),
    )
    def commit(self, run: int, batch: list[tuple[str, int, str]]) -> None:
        """Current tokens, twice in a batch too; old, repeated and foreign ones; no such row."""
        held = [(row.id, row.token or 0) for row in self.model.held()]
        known = [(interaction_id, token) for token, interaction_id in self.handed.items()]
        results = []
        for kind, place, outcome in batch:
            interaction_id, token = _at(
                held if held and kind in ("held", "crossed") else known, place
            )
            if kind == "crossed":
                token = _at(known, place)[1]
            elif kind == "unknown":
                interaction_id = NEVER_AN_ID
            result = answer(interaction_id, token, outcome)
            results.append(self.sent.get(token, result) if kind == "any" else result)
        self._commit(run, results)

    @precondition(lambda self: self.sent)
    @rule(run=runs, place=places)
    def commit_again(self, run: int, place: int) -> None:
        """The answer to a commit was lost, and the caller sends the same."""
        self._commit(run, [_at(list(self.sent.values())[::-1], place)])

    @precondition(lambda self: self.model.held())
    @rule(chosen=picks)
    def leases_end(self, chosen: set[int]) -> None:
        rows = self._picked(self.model.held(), chosen)
        execute(self.engine, _past.format(column="lease_until"), ids=[row.id for row in rows])
        for row in rows:
            row.expired = True

    @precondition(lambda self: any(row.due is False for row in self.model.rows))
    @rule(chosen=picks)
    def retry_times_come(self, chosen: set[int]) -> None:
        rows = self._picked([row for row in self.model.rows if row.due is False], chosen)
        execute(self.engine, _past.format(column="retry_at"), ids=[row.id for row in rows])
        for row in rows:
            row.due = True

    @precondition(lambda self: self.model.held())
    @rule(place=places)
    def reclaim_expired(self, place: int) -> None:
        where = self._scope_of(_at(self.model.held(), place))
        rows = [row for row in self.model.live(where) if row.expired]
        assert self.store.reclaim_expired(where) == self.model.give_back(rows, lost=True)

    @precondition(lambda self: self.model.held())
    @rule(place=places, dies=st.booleans())
    def run_ends(self, place: int, dies: bool) -> None:
        """Dead: its workers are lost. Or it hands back what it will not answer: they are not."""
        run_id = _at(self.model.held(), place).run_id or ""
        rows = self.model.held(run_id)
        found = self.store.reclaim_run(run_id) if dies else self.store.hand_back(run_id)
        assert found == self.model.give_back(rows, lost=dies)

    @precondition(lambda self: self._ready())
    @rule(place=places, run=runs, limit=st.integers(1, 2), times=st.integers(1, 3))
    def run_dies_of_what_it_claims(self, place: int, run: int, limit: int, times: int) -> None:
        scope, model, suspects = _at(self._ready(), place)
        for _ in range(times):
            self._claim(scope, model, run, limit, suspects=suspects)
            rows = self.model.held(self.runs[run])
            found = self.store.reclaim_run(self.runs[run])
            assert found == self.model.give_back(rows, lost=True)

    @precondition(lambda self: self.model.held())
    @rule(run=runs, chosen=picks)
    def extend_leases(self, run: int, chosen: set[int]) -> None:
        asked = {NEVER_AN_ID, *(row.id for row in self._picked(self.model.held(), chosen))}
        asked |= {row.id for row in self._picked(self.model.rows, chosen)}
        mine = [row for row in self.model.held(self.runs[run]) if row.id in asked]
        assert self.store.extend_leases(self.runs[run], asked, 600) == len(mine)
        for row in mine:
            row.expired = False

    @precondition(lambda self: any(row.attempts for row in self.model.live()))
    @rule(place=places, all_steps=st.booleans())
    def retry(self, place: int, all_steps: bool) -> None:
        """Planned first, as ``forge retry`` does: an edit must not renew a child alone."""
        row = _at([row for row in self.model.live() if row.attempts], place)
        where = self._scope_of(row)
        status = row.status if row.status in RETRIED else Status.FAILED
        step = None if all_steps else row.step
        self._plan(where)
        self._bind(read(self.reader, self.dataset)["rows"])
        planned = self.model.planned(where.workflow)
        found = self.store.retry(
            where, status=status, step=step, descendants=DESCENDANTS, planned=planned
        )
        assert found == self.model.retry(where, status, step)

    @rule(extra=st.booleans())
    def tallies_are_folded(self, extra: bool) -> None:
        """Or counted anew, because the stages were cut anew: with one more behind, or without."""
        self.store.fold_tallies(self.dataset, more_than=0)
        self.store.sync_stages(self.dataset, [*STAGES, BEHIND] if extra else STAGES)
        self.counted.clear()

    @rule(run=runs, scope=scopes, restarted=st.booleans())
    def a_run_begins(self, run: int, scope: int, restarted: bool) -> None:
        """Again, too, and in a new process: nothing that matters lives in the old one."""
        if restarted:
            self.engine.dispose()
            self.engine = create_engine(self.url)
            self.store = InteractionStore(self.engine)
        self._register(self.runs[run], self.scopes[scope])

    @precondition(lambda self: self.model.runs)
    @rule(place=places, state=st.sampled_from(["finished", "cut_short", "failed", "dead"]))
    def a_run_is_ended(self, place: int, state: EndState) -> None:
        """The first ending stays."""
        run_id, workflow, partition = _at(list(self.model.runs), place)
        where = next(s for s in self.scopes if (s.workflow, s.partition) == (workflow, partition))
        known = self.model.runs[run_id, workflow, partition]
        ends = known.state == "running"
        assert self.store.end_run(run_id, where, state) is ends
        if ends:
            known.state = state

    @invariant()
    def the_database_holds_what_the_model_holds(self) -> None:
        found = read(self.reader, self.dataset)
        self._bind(found["rows"])
        self._compare_rows(found["rows"])
        events: dict[int, list[Event]] = {row.id: [] for row in self.model.rows}
        for event in found["events"]:
            place = events[event["interaction_id"]]
            place.append((event["kind"], event["run_id"], event["token"]))
        assert events == {row.id: row.events for row in self.model.rows}
        everything = {event["id"]: event["whole"] for event in found["events"]}
        assert self.events.items() <= everything.items(), "an event was changed or deleted"
        self.events = everything
        runs = {}
        for row in found["runs"]:
            assert row["ended"] is (row["state"] != "running")
            stage = (row["run_id"], row["workflow"], row["partition"])
            runs[stage] = RunState(row["state"], row["claimed"], row["committed"])
        assert runs == self.model.runs
        check_rows(found["rows"], events)

    @invariant()
    def the_counts_are_the_models(self) -> None:
        for workflow in WORKFLOWS:
            scopes = [scope for scope in self.scopes if scope.workflow == workflow]
            expected = [self.model.counts(scope) for scope in scopes]
            # The query is slow beside the others, and the rows have been compared.
            if expected != self.counted.get(workflow):
                versions = self.model.versions[workflow]
                counts = self.store.stage_counts(self.dataset, workflow, versions)
                names = expected[0].keys()
                found = [{name: getattr(count, name) for name in names} for count in counts]
                assert found[: len(expected)] == expected
                self.counted[workflow] = expected

    def _compare_rows(self, found: list[dict[str, Any]]) -> None:
        for row, mine in zip(found, sorted(self.model.rows, key=lambda r: r.id), strict=True):
            for name in Row.__dataclass_fields__.keys() - {"events"}:
                assert row[name] == getattr(mine, name), f"{name} of {row['whole']}, not {mine}"
            assert row["model"] == mine.model
            assert row["finished"] is mine.status.final
            # Beyond what the model knows: times, prompts, provenance.
            if mine.status.final:
                whole = row["whole"] | {"superseded_at": None}
                assert self.ended.setdefault(mine.id, whole) == whole
            if mine.superseded:
                assert self.retired.setdefault(mine.id, row["whole"]) == row["whole"]

    def _ready(self) -> list[tuple[StageScope, str, bool]]:
        """Where a claim gives something: stage, model, whether suspects."""
        choices = itertools.product(self.scopes, ("small", "big"), (False, True))
        return [c for c in choices if self.model.claimable(c[0], c[1], 1, tuple(NEEDS), c[2])]

    def _bind(self, found: list[dict[str, Any]]) -> None:
        """The model's new rows take the ids of the database's."""
        known = {row.id for row in self.model.rows}
        new = {(r["key"], r["workflow"], r["step"]): r["id"] for r in found if r["id"] not in known}
        for row in self.model.rows:
            if not row.id:
                row.id = new.pop((row.key, row.workflow, row.step))
        assert not new, f"rows that nobody asked for: {new}"

    def _ingest(self, records: list[SubjectRecord]) -> None:
        assert self.store.ingest(self.dataset, records) == self.model.ingest(records)

    def _plan(self, scope: StageScope) -> None:
        planned = self.model.planned(scope.workflow)
        assert self.store.plan_stage(scope, planned, decide) == self.model.plan(scope)

    def _register(self, run_id: str, scope: StageScope) -> None:
        self.store.register_run(run_id, scope, pid=1, host="here")
        place = (run_id, scope.workflow, scope.partition)
        self.model.runs.setdefault(place, RunState()).state = "running"

    def _claim(
        self,
        where: StageScope,
        model: str,
        run: int,
        limit: int = 9,
        steps: Sequence[str] = tuple(NEEDS),
        suspects: bool = False,
    ) -> list[Claim]:
        run_id = self.runs[run]
        if not all(row.id for row in self.model.rows):
            self._bind(read(self.reader, self.dataset)["rows"])
        claims = self.store.claim(
            where,
            model,
            run_id=run_id,
            limit=limit,
            lease_seconds=600,
            steps=steps,
            ancestors_of=ANCESTORS,
            suspects=suspects,
        )
        rows = self.model.claimable(where, model, limit, steps, suspects)
        assert [claim.interaction_id for claim in claims] == [row.id for row in rows]
        last = max(self.handed, default=0)
        for claim, row in zip(claims, rows, strict=True):
            assert claim.token > last
            assert claim.token not in self.handed
            self.handed[claim.token] = claim.interaction_id
            family = self.model.family(row.key, row.workflow)
            assert claim.ancestors == {name: family[name].state for name in ANCESTORS[row.step]}
        self.model.claim(where, run_id, rows, claims)
        return claims

    def _commit(self, run: int, results: list[Result]) -> None:
        report = self.store.commit(self.runs[run], results, decide)
        assert report == self.model.commit(self.runs[run], results, self.scopes)
        for result in results:
            self.sent.setdefault(result.token, result)

    def _scope_of(self, row: Row) -> StageScope:
        return next(scope for scope in self.scopes if within(row, scope))

    @staticmethod
    def _picked(rows: list[Row], chosen: set[int]) -> list[Row]:
        return [rows[number] for number in sorted({n % len(rows) for n in chosen})]


def test_any_order_of_calls_keeps_the_rules(module_postgres_url: str) -> None:
    reader = create_engine(module_postgres_url, isolation_level="AUTOCOMMIT")
    machine = type("Machine", (StoreMachine,), {"url": module_postgres_url, "reader": reader})
    options = settings(
        max_examples=45 * FUZZ,
        stateful_step_count=30,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(machine, settings=options)
    finally:
        reader.dispose()
