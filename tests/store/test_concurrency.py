"""Several workers at once, each with connections of its own."""

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa

from resources.database import create_engine
from resources.interaction import StepState, Transition
from resources.interaction_store import InteractionStore, PlanReport
from tests.store.workshop import (
    CANARY,
    DATASET,
    NEEDS,
    RAMP,
    RUN,
    advance,
    claim,
    commit,
    completed,
    fetch,
    finish,
    planned,
    prepare,
    statuses,
    subjects,
)

T = TypeVar("T")
WAIT = 30


@pytest.fixture
def other(postgres_url: str) -> Iterator[InteractionStore]:
    """A second worker's store, on an engine of its own."""
    engine = create_engine(postgres_url)
    yield InteractionStore(engine)
    engine.dispose()


def together(*calls: Callable[[], T]) -> list[T]:
    """The calls' answers; they start at the same moment."""
    barrier = threading.Barrier(len(calls))

    def start(call: Callable[[], T]) -> T:
        barrier.wait(WAIT)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result(WAIT) for future in [pool.submit(start, call) for call in calls]]


def waiting_for_a_lock(engine: sa.Engine) -> bool:
    sql = (
        "SELECT count(*) AS n FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return bool(fetch(engine, sql)[0]["n"])


def until(condition: Callable[[], bool]) -> None:
    gone = threading.Event()
    for _ in range(WAIT * 100):
        if condition():
            return
        gone.wait(0.01)
    raise AssertionError("it did not happen")


def test_two_workers_claim_different_rows(store: InteractionStore, other: InteractionStore) -> None:
    prepare(store, 60, RAMP)
    mine, theirs = together(
        lambda: [claim(store, scope=RAMP, limit=1)[0] for _ in range(25)],
        lambda: [claim(other, scope=RAMP, limit=1, run_id="run-2")[0] for _ in range(25)],
    )
    assert len({c.interaction_id for c in (*mine, *theirs)}) == 50
    assert len({c.token for c in (*mine, *theirs)}) == 50


def test_a_claimer_never_waits_for_another(
    store: InteractionStore, other: InteractionStore, postgres_engine: sa.Engine
) -> None:
    prepare(store, 2)
    with postgres_engine.begin() as connection:
        connection.execute(
            sa.text(
                "SELECT id FROM forge.interactions WHERE ordinal = 0 AND step = 'summarize'"
                " FOR UPDATE"
            )
        )
        assert [c.ordinal for c in claim(other)] == [1]
    assert [c.ordinal for c in claim(other)] == [0]


def test_two_workers_that_end_two_needs_of_one_child(
    store: InteractionStore, other: InteractionStore, postgres_engine: sa.Engine
) -> None:
    """The second waits for the first's transaction and then sees its result: the child is ready."""
    prepare(store, 1)
    commit(store, completed(claim(store)[0]))
    small, big = claim(store)[0], claim(other, "big", run_id="run-2")[0]
    first_is_inside, second_waits = threading.Event(), threading.Event()
    seen: list[Mapping[str, StepState]] = []

    def slowly(states: Mapping[str, StepState]) -> Mapping[str, Transition]:
        if not first_is_inside.is_set():
            first_is_inside.set()
            assert second_waits.wait(WAIT)
        return advance(states)

    def watched(states: Mapping[str, StepState]) -> Mapping[str, Transition]:
        seen.append(states)
        return advance(states)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(store.commit, RUN, [completed(small)], slowly)
        assert first_is_inside.wait(WAIT)
        second = pool.submit(other.commit, "run-2", [completed(big)], watched)
        until(lambda: waiting_for_a_lock(postgres_engine))
        assert not second.done()
        second_waits.set()
        assert first.result(WAIT).newly_ready == 0
        assert second.result(WAIT).newly_ready == 1
    assert {seen[0][name].status.value for name in ("classify", "grade")} == {"completed"}
    assert [c.step for c in claim(store)] == ["results"]


def test_many_fan_ins_at_once(
    store: InteractionStore, other: InteractionStore, postgres_engine: sa.Engine
) -> None:
    prepare(store, 60, RAMP)
    commit(store, *map(completed, claim(store, scope=RAMP)))
    small, big = claim(store, scope=RAMP), claim(store, "big", scope=RAMP)
    # Opposite orders: without one lock order these would wait for each other.
    reports = together(
        lambda: commit(store, *map(completed, small)),
        lambda: commit(other, *map(completed, reversed(big))),
    )
    assert sum(report.newly_ready for report in reports) == 50
    assert finish(store, RAMP) == 50
    assert statuses(postgres_engine, "results") == ["completed"] * 50


def test_a_result_and_its_reclaim_at_once(
    store: InteractionStore, other: InteractionStore, postgres_engine: sa.Engine
) -> None:
    """Either the result came first and stays, or it is refused and the row is free."""
    prepare(store, 60, RAMP)
    for _ in range(3):
        claims = claim(store, scope=RAMP)
        results = [completed(c) for c in claims]
        calls: list[Callable[[], Any]] = [
            partial(other.reclaim_run, RUN),
            partial(commit, store, *results),
        ]
        reclaimed, report = together(*calls)
        assert reclaimed + report.committed == len(claims)
        assert len(report.refused) == reclaimed
    finish(store, RAMP)
    assert {tuple(statuses(postgres_engine, step)) for step in NEEDS} == {("completed",) * 50}


def test_two_planners_at_once(
    store: InteractionStore, other: InteractionStore, postgres_engine: sa.Engine
) -> None:
    store.ingest(DATASET, subjects(60))
    reports = together(
        lambda: store.plan_stage(RAMP, planned(), advance),
        lambda: other.plan_stage(RAMP, planned(), advance),
    )
    assert sorted(report.created for report in reports) == [0, 200]
    assert store.plan_stage(RAMP, planned(), advance) == PlanReport()


def test_a_changed_workflow_while_results_come_in(
    store: InteractionStore, other: InteractionStore, postgres_engine: sa.Engine
) -> None:
    """Whoever comes first: no result of the old version stays, and nothing waits for ever."""
    prepare(store, 60, RAMP)
    for round_ in range(3):
        results = [completed(c) for c in claim(store, scope=RAMP)]
        versions = {name: f"{name}-{round_}" for name in NEEDS}
        calls: list[Callable[[], Any]] = [
            partial(other.plan_stage, RAMP, planned(versions), advance),
            partial(commit, store, *reversed(results)),
        ]
        plan, report = together(*calls)
        assert plan.created == plan.superseded == 200
        assert report.committed + len(report.refused) == 50
        assert statuses(postgres_engine, "summarize") == ["pending"] * 50
    assert finish(store, RAMP) == 200


def test_two_readers_of_one_source_at_once(
    store: InteractionStore, other: InteractionStore, postgres_engine: sa.Engine
) -> None:
    reports = together(
        lambda: store.ingest(DATASET, subjects(100)),
        lambda: other.ingest(DATASET, subjects(100)),
    )
    assert sorted(report.inserted for report in reports) == [0, 100]
    rows = fetch(postgres_engine, "SELECT ordinal FROM forge.subjects ORDER BY ordinal")
    assert [row["ordinal"] for row in rows] == list(range(100))


def test_a_worker_that_dies_holding_leases(
    store: InteractionStore, other: InteractionStore, postgres_engine: sa.Engine
) -> None:
    """Its connections are cut; what it had claimed goes to the next, nothing ends twice."""
    prepare(store, 10)
    other.register_run("run-2", CANARY, pid=2, host="there")
    held = claim(other, limit=4, run_id="run-2")
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    fetch(postgres_engine, f"{cut} AND datname = current_database()")
    assert store.reclaim_run("run-2") == 4
    assert finish(store) == 40
    assert commit(other, *map(completed, held), run_id="run-2").committed == 0
    outputs = fetch(
        postgres_engine,
        "SELECT count(*) AS n FROM forge.interaction_events WHERE kind = 'completed'",
    )
    assert outputs == [{"n": 40}]


def test_a_connection_cut_inside_a_commit_leaves_nothing_and_can_be_repeated(
    store: InteractionStore, postgres_engine: sa.Engine
) -> None:
    prepare(store, 1)
    claimed = claim(store)[0]

    def cut(states: Mapping[str, StepState]) -> Mapping[str, Transition]:
        sql = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND state = 'idle in transaction'"
        )
        fetch(postgres_engine, sql)
        return advance(states)

    with pytest.raises(sa.exc.OperationalError):
        store.commit(RUN, [completed(claimed)], cut)
    assert statuses(postgres_engine, "summarize") == ["running"]
    assert store.commit(RUN, [completed(claimed)], advance).newly_ready == 2
