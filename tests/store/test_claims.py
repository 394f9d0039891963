"""Leases: order, limits, tokens, expiry, and what a claim carries."""

import pytest
import sqlalchemy as sa

from resources.interaction import ErrorClass, Result, Status
from resources.interaction_store import InteractionStore
from tests.store.workshop import (
    CANARY,
    DATASET,
    RAMP,
    RUN,
    advance,
    claim,
    commit,
    completed,
    execute,
    finish,
    planned,
    prepare,
)

PAST = (
    "UPDATE forge.interactions SET lease_until = clock_timestamp() - interval '1 second'"
    " WHERE status = 'running'"
)


def test_claims_come_in_the_subjects_order_and_not_twice(store: InteractionStore) -> None:
    prepare(store, 5)
    first, second = claim(store, limit=2), claim(store, limit=100)
    assert [c.ordinal for c in first] == [0, 1]
    assert [c.ordinal for c in second] == [2, 3, 4]
    assert claim(store) == []
    tokens = [c.token for c in (*first, *second)]
    assert len(set(tokens)) == 5
    assert min(tokens[2:]) > max(tokens[:2])


def test_a_claim_stays_in_its_stage_model_and_steps(store: InteractionStore) -> None:
    prepare(store, 12)
    store.plan_stage(RAMP, planned(), advance)
    assert claim(store, "big") == []
    assert claim(store, steps=["classify"]) == []
    assert [c.ordinal for c in claim(store, scope=RAMP)] == [10, 11]
    assert {c.step for c in claim(store)} == {"summarize"}


def test_a_claim_can_be_held_to_some_subjects(store: InteractionStore) -> None:
    prepare(store, 5)
    chosen = store.unfinished_subject_ids(CANARY, 2)
    assert store.ready_models(CANARY, subject_ids=chosen) == {"small": 2}
    assert store.open_work(CANARY, subject_ids=chosen).total == 8
    claimed = store.claim(
        CANARY,
        "small",
        run_id=RUN,
        limit=9,
        lease_seconds=60,
        subject_ids=chosen,
        ancestors_of={},
    )
    assert [c.ordinal for c in claimed] == [0, 1]


def test_a_claim_carries_the_subject_and_its_ancestors(store: InteractionStore) -> None:
    prepare(store, 1)
    root = claim(store)[0]
    assert (root.subject_key, root.fields, root.ancestors) == ("key-0", {"text": "text 0"}, {})
    commit(store, completed(root, "short", parsed={"n": [1, 2]}))
    child = claim(store, "big")[0]
    state = child.ancestors["summarize"]
    assert (state.status, state.output, state.parsed) == (Status.COMPLETED, "short", {"n": [1, 2]})
    commit(store, completed(child), completed(claim(store)[0]))
    assert set(claim(store)[0].ancestors) == {"summarize", "classify", "grade"}


def test_an_expired_lease_is_reclaimed_and_its_late_result_refused(
    store: InteractionStore, postgres_engine: sa.Engine
) -> None:
    prepare(store, 2)
    late, _ = claim(store)
    execute(postgres_engine, f"{PAST} AND id = {late.interaction_id}")
    assert store.reclaim_expired(CANARY) == 1
    assert store.reclaim_expired(CANARY) == 0
    refused = commit(store, completed(late, "late"))
    assert (refused.committed, refused.refused) == (0, (late.interaction_id,))
    again = claim(store, run_id="run-2")[0]
    assert (again.interaction_id, again.attempt) == (late.interaction_id, 0)
    assert commit(store, completed(late, "late")).refused == (late.interaction_id,)
    assert commit(store, completed(again, "in time"), run_id="run-2").committed == 1
    row = store.get_interaction_by_id(late.interaction_id)
    assert row is not None
    assert (row.output, row.claims, row.run_id) == ("in time", 2, "run-2")
    kinds = [event.kind for event in row.events]
    assert kinds == ["claimed", "reclaimed", "refused", "claimed", "refused", "completed"]
    assert row.events[2].detail["output"] == "late"
    assert row.events[1].token == late.token


def test_a_row_reclaimed_and_claimed_by_nobody_refuses_the_late_result(
    store: InteractionStore, postgres_engine: sa.Engine
) -> None:
    prepare(store, 1)
    late = claim(store)[0]
    execute(postgres_engine, PAST)
    store.reclaim_expired(CANARY)
    commit(store, completed(late))
    assert store.ready_models(CANARY) == {"small": 1}


def test_leases_of_other_stages_are_left_alone(
    store: InteractionStore, postgres_engine: sa.Engine
) -> None:
    prepare(store, 12)
    store.plan_stage(RAMP, planned(), advance)
    claim(store, scope=RAMP)
    execute(postgres_engine, PAST)
    assert store.reclaim_expired(CANARY) == 0
    assert store.reclaim_expired(RAMP) == 2


def test_everything_of_a_dead_run_is_reclaimed(store: InteractionStore) -> None:
    prepare(store, 4)
    mine, theirs = claim(store, limit=2), claim(store, limit=2, run_id="run-2")
    assert store.reclaim_run("run-2") == 2
    assert store.open_work(CANARY, run_id=RUN).running_here == 2
    assert commit(store, *(completed(c) for c in theirs), run_id="run-2").committed == 0
    assert commit(store, *(completed(c) for c in mine)).committed == 2


def test_what_a_run_holds_that_has_ended_is_reclaimed(store: InteractionStore) -> None:
    prepare(store, 4)
    for run_id in (RUN, "run-2"):
        store.register_run(run_id, CANARY, pid=1, host="here")
    mine, theirs = claim(store, limit=2), claim(store, limit=2, run_id="run-2")
    assert store.reclaim_left_behind(CANARY) == 0
    store.end_run("run-2", CANARY, "cut_short", "interrupted")
    assert store.reclaim_left_behind(CANARY) == 2
    assert store.open_work(CANARY, run_id=RUN).running_here == 2
    again = claim(store, limit=4, run_id="run-3")
    assert {(c.interaction_id, c.losses) for c in again} == {(c.interaction_id, 0) for c in theirs}
    assert commit(store, *(completed(c) for c in mine)).committed == 2


def test_a_lease_is_extended_only_for_its_holder(
    store: InteractionStore, postgres_engine: sa.Engine
) -> None:
    prepare(store, 2)
    first, second = claim(store)
    execute(postgres_engine, PAST)
    assert store.extend_leases("run-2", [first.interaction_id], 600) == 0
    assert store.extend_leases(RUN, [first.interaction_id], 600) == 1
    assert store.extend_leases(RUN, [], 600) == 0
    assert store.reclaim_expired(CANARY) == 1
    row = store.get_interaction_by_id(second.interaction_id)
    assert row is not None
    assert row.status is Status.PENDING


def test_a_retry_waits_for_its_time(store: InteractionStore, postgres_engine: sa.Engine) -> None:
    prepare(store, 2)
    first, second = claim(store)
    again = Result(
        first.interaction_id,
        first.token,
        Status.PENDING,
        error_class=ErrorClass.TIMEOUT,
        error_message="slow",
        retry_in=3600,
    )
    report = commit(store, again, completed(second))
    assert (report.committed, report.retried) == (2, 1)
    work = store.open_work(CANARY)
    assert (work.ready, work.waiting_retry) == (2, 1)  # second's children; first waits
    assert work.retry_in_seconds == pytest.approx(3600, abs=60)
    assert claim(store, steps=["summarize"]) == []
    execute(
        postgres_engine, "UPDATE forge.interactions SET retry_at = now() WHERE retry_at > now()"
    )
    once_more = claim(store, steps=["summarize"])[0]
    assert (once_more.interaction_id, once_more.attempt) == (first.interaction_id, 1)


def test_models_with_work_left(store: InteractionStore) -> None:
    prepare(store, 4)
    assert store.open_models(CANARY, ["summarize"]) == {"small": 4}
    assert sum(store.open_models(CANARY).values()) == 16
    finish(store)
    assert store.open_models(CANARY) == {}


def test_open_work_tells_who_works(store: InteractionStore) -> None:
    prepare(store, 4)
    claim(store, limit=1)
    claim(store, limit=2, run_id="run-2", lease=300)
    work = store.open_work(CANARY, run_id=RUN)
    assert (work.ready, work.running_here, work.running_elsewhere) == (1, 1, 2)
    assert (work.pending_not_ready, work.total) == (12, 16)
    assert work.lease_in_seconds == pytest.approx(300, abs=30)
    assert store.open_work(CANARY).running_elsewhere == 3
    assert store.open_work(CANARY, ["summarize"]).total == 4
    finish(store)
    assert store.unfinished_parents(CANARY, ["summarize", "grade"]) == {"grade": 3, "summarize": 3}
    store.reclaim_run(RUN)
    store.reclaim_run("run-2")
    finish(store)
    assert store.open_work(CANARY).total == 0
    assert store.unfinished_subject_ids(CANARY, 10) == []
    assert store.unfinished_parents(CANARY, ["summarize", "grade"]) == {}
    assert store.trace(DATASET, None, "nobody") is None
