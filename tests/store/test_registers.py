"""Runs, model loads and samples; the trace of a subject; calling again after an outage."""

import threading
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from resources.database import create_engine
from resources.errors import InfrastructureError
from resources.interaction_store import (
    InteractionStore,
    ResourceSample,
    StageScope,
    with_retries,
)
from tests.store.workshop import (
    CANARY,
    DATASET,
    RAMP,
    RUN,
    WORKFLOW,
    claim,
    commit,
    completed,
    fetch,
    finish,
    planned,
    prepare,
)


def test_a_run_has_a_row_for_each_workflow_and_ends_each(store: InteractionStore) -> None:
    other = StageScope(DATASET, "other", "canary-10", 0, 10)
    store.register_run(RUN, CANARY, pid=11, host="here")
    store.register_run(RUN, other, pid=11, host="here")
    assert store.end_run(RUN, CANARY, "cut_short", "Ctrl+C")
    assert [(run.state, run.reason) for run in store.runs(CANARY)] == [("cut_short", "Ctrl+C")]
    assert [(run.state, run.pid, run.host) for run in store.runs(other)] == [
        ("running", 11, "here")
    ]
    assert store.runs(CANARY, states=["running"]) == []
    assert store.runs(RAMP) == []


def test_the_first_ending_of_a_run_stays(store: InteractionStore) -> None:
    store.register_run(RUN, CANARY, pid=11, host="here")
    assert store.end_run(RUN, CANARY, "finished")
    assert not store.end_run(RUN, CANARY, "dead", "too late")
    assert not store.end_run("nobody", CANARY, "dead")
    assert [(run.state, run.reason) for run in store.runs(CANARY)] == [("finished", None)]


def test_a_run_registered_again_is_running_and_keeps_its_first_claim(
    store: InteractionStore,
) -> None:
    prepare(store, 1)
    finish(store)
    store.end_run(RUN, CANARY, "failed", "the step was retried")
    before = store.runs(CANARY)[0]
    store.register_run(RUN, CANARY, pid=99, host="there")
    after = store.runs(CANARY)[0]
    assert (after.state, after.reason, after.ended_at) == ("running", None, None)
    assert (after.pid, after.host) == (99, "there")
    assert after.first_claim == before.first_claim is not None
    assert after.last_commit == before.last_commit is not None


def test_runs_come_newest_first(store: InteractionStore) -> None:
    for name in ("a", "b", "c"):
        store.register_run(name, CANARY, pid=1, host="here")
    store.end_run("b", CANARY, "dead")
    assert [run.run_id for run in store.runs(CANARY)] == ["c", "b", "a"]
    assert [run.run_id for run in store.runs(CANARY, states=["dead", "failed"])] == ["b"]


def test_loads_and_samples_come_back(store: InteractionStore) -> None:
    store.add_load(RUN, "small", 1.5, 270_000_000, "disk")
    store.add_load("run-2", "big", 9.0, 16_000_000_000, "disk")
    loads = store.loads([RUN])
    assert [(load.model, load.seconds, load.bytes, load.tier) for load in loads] == [
        ("small", 1.5, 270_000_000, "disk")
    ]
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    gpu = {"index": 0, "utilisation": 71, "memory_used": 3, "memory_total": 80}
    taken = ResourceSample(RUN, 64, 32, 9, 2, 7, 100, (gpu,), at=noon)
    store.add_samples([taken, ResourceSample(RUN, 64, 31, 9, 1, 8, 100)])
    store.add_samples([])
    first, second = store.samples([RUN])
    assert first == taken
    assert (second.memory_available, second.gpus) == (31, ())
    assert second.at is not None
    assert second.at > noon
    assert store.samples(["run-2"]) == []


def test_the_trace_has_everything_of_one_workflow_or_of_all(store: InteractionStore) -> None:
    prepare(store, 2)
    other = StageScope(DATASET, "other", "canary-10", 0, 10)
    store.plan_stage(other, planned({"summarize": "s"}), lambda states: {})
    finish(store)
    everything = store.trace(DATASET, None, "key-1")
    one = store.trace(DATASET, WORKFLOW, "key-1")
    assert everything is not None
    assert one is not None
    assert {row.workflow for row in everything.interactions} == {WORKFLOW, "other"}
    assert len(one.interactions) == 4
    assert {row.partition for row in one.interactions} == {"canary-10"}
    assert {row.subject_key for row in one.interactions} == {"key-1"}
    assert one.interactions[0] == store.get_interaction_by_id(one.interactions[0].id)
    assert store.trace("another", None, "key-1") is None


def test_a_call_is_repeated_after_its_connection_was_cut(
    store: InteractionStore, postgres_engine: sa.Engine
) -> None:
    prepare(store, 1)
    claimed = claim(store)[0]
    calls = []

    def cut_once() -> int:
        calls.append(1)
        if len(calls) == 1:
            with postgres_engine.connect() as connection:
                connection.execute(sa.text("SELECT pg_terminate_backend(pg_backend_pid())"))
        return commit(store, completed(claimed)).committed

    assert with_retries(cut_once, seconds=30) == 1
    assert len(calls) == 2


def test_a_database_that_stays_away_is_one_sentence(postgres_url: str) -> None:
    engine = create_engine(sa.make_url(postgres_url).update_query_dict({"port": "1"}))
    with pytest.raises(InfrastructureError, match=r"did not answer for 0\.2 s") as caught:
        with_retries(lambda: fetch(engine, "SELECT 1"), seconds=0.2)
    assert "\n" not in str(caught.value)
    stop = threading.Event()
    stop.set()
    with pytest.raises(InfrastructureError):
        with_retries(lambda: fetch(engine, "SELECT 1"), seconds=3600, stop=stop)
    engine.dispose()


def test_a_mistake_is_not_repeated(postgres_engine: sa.Engine) -> None:
    calls = []

    def wrong() -> None:
        calls.append(1)
        fetch(postgres_engine, "SELECT * FROM forge.nothing")

    with pytest.raises(sa.exc.ProgrammingError):
        with_retries(wrong, seconds=30)
    assert len(calls) == 1
