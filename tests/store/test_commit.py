"""Results: written once, with everything that follows from them, or refused."""

import math
from typing import Any

import pytest
import sqlalchemy as sa

from resources.interaction import ErrorClass, Result, SkipKind, Status, Transition
from resources.interaction_store import CommitReport, InteractionStore
from tests.store.workshop import (
    CANARY,
    RUN,
    advance,
    claim,
    commit,
    completed,
    failed,
    fetch,
    finish,
    prepare,
    rejected,
    statuses,
)


def again(claimed: Any, output: str, message: str) -> Result:
    return Result(
        claimed.interaction_id,
        claimed.token,
        Status.PENDING,
        prompt="p",
        output=output,
        error_class=ErrorClass.CONTRACT,
        error_message=message,
        prompt_tokens=10,
        output_tokens=3,
        provenance={"seconds": 0.5, "batch_id": 7},
    )


def test_results_make_their_children_ready(
    store: InteractionStore, postgres_engine: sa.Engine
) -> None:
    prepare(store, 2)
    report = commit(store, *map(completed, claim(store)))
    assert report == CommitReport(committed=2, newly_ready=4)
    small, big = claim(store), claim(store, "big")
    assert commit(store, *map(completed, small)) == CommitReport(committed=2)
    assert commit(store, *map(completed, big)) == CommitReport(committed=2, newly_ready=2)
    assert finish(store) == 2
    assert statuses(postgres_engine, "results") == ["completed"] * 2


def test_what_a_result_says_is_kept(store: InteractionStore) -> None:
    prepare(store, 1)
    claimed = claim(store)[0]
    result = Result(
        claimed.interaction_id,
        claimed.token,
        Status.COMPLETED,
        prompt="the prompt",
        system="be brief",
        output="yes",
        parsed=["yes", 1],
        prompt_tokens=20,
        output_tokens=2,
        provenance={"engine": "transformers", "seconds": 1.25},
    )
    commit(store, result)
    row = store.get_interaction_by_id(claimed.interaction_id)
    assert row is not None
    assert (row.status, row.prompt, row.system) == (Status.COMPLETED, "the prompt", "be brief")
    assert (row.output, row.parsed, row.seconds) == ("yes", ["yes", 1], 1.25)
    assert (row.prompt_tokens, row.output_tokens, row.attempts) == (20, 2, 1)
    assert row.provenance == {"engine": "transformers", "seconds": 1.25}
    assert (row.token, row.lease_until, row.run_id) == (None, None, RUN)
    assert row.finished_at is not None
    assert row.claimed_at is not None
    assert row.finished_at >= row.claimed_at
    assert store.get_interaction_by_id(10**9) is None


def test_a_rejected_step_skips_everything_below_in_the_same_transaction(
    store: InteractionStore, postgres_engine: sa.Engine
) -> None:
    prepare(store, 1)
    claimed = claim(store)[0]
    assert commit(store, rejected(claimed)) == CommitReport(committed=1, skipped=3)
    rows = fetch(
        postgres_engine,
        "SELECT i.status, i.skip_kind, i.skip_reason, i.finished_at, e.kind, e.detail"
        " FROM forge.interactions i JOIN forge.interaction_events e ON e.interaction_id = i.id"
        " WHERE i.step <> 'summarize' ORDER BY i.id",
    )
    assert {row["status"] for row in rows} == {row["kind"] for row in rows} == {"skipped"}
    assert {row["skip_kind"] for row in rows} == {SkipKind.ANCESTOR.value}
    assert [row["skip_reason"] for row in rows] == [row["detail"]["reason"] for row in rows]
    assert all(row["finished_at"] for row in rows)
    assert store.open_work(CANARY).total == 0


def test_every_attempt_is_in_the_trace(store: InteractionStore) -> None:
    prepare(store, 1)
    for attempt in range(2):
        claimed = claim(store)[0]
        assert claimed.attempt == attempt
        commit(store, again(claimed, f"bad {attempt}", f"too short {attempt}"))
    last = claim(store)[0]
    commit(store, completed(last, "good", prompt_tokens=10, output_tokens=4))
    row = store.get_interaction_by_id(last.interaction_id)
    assert row is not None
    assert (row.attempts, row.claims, row.output, row.error_class) == (3, 3, "good", None)
    assert (row.prompt_tokens, row.output_tokens) == (30, 10)
    ends = [event for event in row.events if event.kind != "claimed"]
    assert [(event.kind, event.attempt) for event in ends] == [
        ("retried", 0),
        ("retried", 1),
        ("completed", 2),
    ]
    assert [event.detail.get("output") for event in ends] == ["bad 0", "bad 1", None]
    assert ends[1].detail["error_message"] == "too short 1"
    assert ends[0].detail["provenance"]["batch_id"] == 7
    assert [event.run_id for event in ends] == [RUN] * 3


def test_a_retried_attempt_moves_nobody(store: InteractionStore) -> None:
    prepare(store, 1)
    claimed = claim(store)[0]
    assert commit(store, again(claimed, "bad", "too short")) == CommitReport(committed=1, retried=1)
    row = store.get_interaction_by_id(claimed.interaction_id)
    assert row is not None
    assert (row.status, row.ready, row.output, row.token) == (Status.PENDING, True, None, None)
    assert row.error_message == "too short"


def test_committing_twice_is_committing_once(
    store: InteractionStore, postgres_engine: sa.Engine
) -> None:
    prepare(store, 3)
    first, second, third = claim(store)
    batch = [completed(first), again(second, "bad", "x"), rejected(third)]
    commit(store, *batch)
    tables = ("interactions", "interaction_events")
    before = [fetch(postgres_engine, f"SELECT * FROM forge.{name} ORDER BY id") for name in tables]
    assert commit(store, *batch) == CommitReport(committed=3, retried=1)
    after = [fetch(postgres_engine, f"SELECT * FROM forge.{name} ORDER BY id") for name in tables]
    assert after == before
    # Also once the row was claimed again.
    taken = claim(store, steps=["summarize"])[0]
    assert taken.interaction_id == second.interaction_id
    assert commit(store, again(second, "bad", "x")).committed == 1
    assert commit(store, completed(taken)).committed == 1


def test_a_batch_may_hold_refused_results(store: InteractionStore) -> None:
    prepare(store, 2)
    first, second = claim(store)
    stale = Result(second.interaction_id, second.token + 1000, Status.COMPLETED, output="x")
    unknown = Result(10**9, 1, Status.COMPLETED, output="x")
    twice = completed(first, "the second of two")
    report = commit(store, completed(first, "the first"), stale, unknown, twice)
    assert report.committed == 1
    assert report.refused == (second.interaction_id, 10**9, first.interaction_id)
    row = store.get_interaction_by_id(first.interaction_id)
    assert row is not None
    assert row.output == "the first"
    assert commit(store, completed(second)).committed == 1
    assert commit(store) == CommitReport()


def test_refusals_say_why(store: InteractionStore, postgres_engine: sa.Engine) -> None:
    prepare(store, 1)
    late = claim(store)[0]
    store.reclaim_run(RUN)
    commit(store, completed(late))
    claim(store)
    commit(store, failed(late))
    events = fetch(
        postgres_engine, "SELECT * FROM forge.interaction_events WHERE kind = 'refused' ORDER BY id"
    )
    assert [event["detail"]["reason"] for event in events] == [
        "the interaction is pending, not running",
        f"the lease went to token {late.token + 1}",
    ]
    assert {event["token"] for event in events} == {late.token}
    assert events[1]["detail"]["error_message"] == "the engine broke"


def test_an_error_in_the_middle_leaves_nothing(
    store: InteractionStore, postgres_engine: sa.Engine
) -> None:
    prepare(store, 1)
    claimed = claim(store)[0]
    before = fetch(postgres_engine, "SELECT * FROM forge.interactions ORDER BY id")

    def broken(states: Any) -> Any:
        raise RuntimeError("advance broke")

    with pytest.raises(RuntimeError, match="advance broke"):
        store.commit(RUN, [completed(claimed)], broken)
    assert fetch(postgres_engine, "SELECT * FROM forge.interactions ORDER BY id") == before
    assert store.commit(RUN, [completed(claimed)], advance).committed == 1


@pytest.mark.parametrize("status", [Status.RUNNING, Status.SKIPPED])
def test_an_attempt_does_not_end_as(store: InteractionStore, status: Status) -> None:
    with pytest.raises(ValueError, match=f"no attempt ends as {status}"):
        store.commit(RUN, [Result(1, 1, status)], advance)


@pytest.mark.parametrize(
    ("output", "kept"),
    [
        ("a\0b", "a\ufffdb"),
        ("half \ud83d pair", "half \ufffd pair"),
        ("two halves \ud83d\ude00", "two halves \U0001f600"),
        ("' \" \\u0000 %(x)s :y \\ {z}", "' \" \\u0000 %(x)s :y \\ {z}"),
        ("", ""),
    ],
)
def test_any_text_of_a_model_can_be_kept(store: InteractionStore, output: str, kept: str) -> None:
    prepare(store, 1)
    claimed = claim(store)[0]
    parsed = {output: [output, 1.5]}
    assert commit(store, completed(claimed, output, parsed=parsed)).committed == 1
    row = store.get_interaction_by_id(claimed.interaction_id)
    assert row is not None
    assert (row.output, row.parsed) == (kept, {kept: [kept, 1.5]})


def test_numbers_that_are_not_json_become_null(store: InteractionStore) -> None:
    prepare(store, 1)
    claimed = claim(store)[0]
    commit(store, completed(claimed, parsed={"a": math.nan, "b": [math.inf, 1]}))
    row = store.get_interaction_by_id(claimed.interaction_id)
    assert row is not None
    assert row.parsed == {"a": None, "b": [None, 1]}


def test_only_waiting_steps_move_whatever_advance_says(
    store: InteractionStore, postgres_engine: sa.Engine
) -> None:
    prepare(store, 1)
    claimed = claim(store)[0]
    ready = Transition(ready=True)
    report = store.commit(
        RUN, [completed(claimed)], lambda states: dict.fromkeys((*states, "unknown"), ready)
    )
    assert report == CommitReport(committed=1, newly_ready=3)
    assert statuses(postgres_engine, "summarize") == ["completed"]
