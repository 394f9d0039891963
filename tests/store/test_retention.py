"""What is long over is forgotten, in batches; results and the event of their end stay."""

import pytest
import sqlalchemy as sa

from resources.interaction import Status
from resources.interaction_store import InteractionStore, Removed, ResourceSample
from tests.store.workshop import (
    CANARY,
    DATASET,
    DESCENDANTS,
    RUN,
    advance,
    claim,
    commit,
    completed,
    execute,
    fetch,
    planned,
    prepare,
    rejected,
)

DAY = 86400.0
SAMPLE = ResourceSample(RUN, 10, 5, 4, 3, 1, 100)


@pytest.fixture
def aged(store: InteractionStore, postgres_engine: sa.Engine) -> InteractionStore:
    """Of ten subjects' first steps one was replaced, seven ended, one is claimed, one is new; all
    a year ago, and one more ended today."""
    prepare(store, 10)
    claims = claim(store, limit=9)
    commit(store, rejected(claims[0]), *map(completed, claims[1:7]))
    store.retry(
        CANARY,
        status=Status.REJECTED,
        step=None,
        descendants=DESCENDANTS,
        planned=planned(),
    )
    store.add_samples([SAMPLE, SAMPLE])
    # No trigger may say that history does not change.
    execute(
        postgres_engine,
        "SET LOCAL session_replication_role = replica;"
        " UPDATE forge.interactions SET finished_at = finished_at - interval '1 year',"
        " superseded_at = superseded_at - interval '1 year';"
        " UPDATE forge.interaction_events SET at = at - interval '1 year';"
        " UPDATE forge.resource_samples SET at = at - interval '1 year'",
    )
    store.add_samples([SAMPLE])
    commit(store, completed(claims[7]))
    return store


def events(engine: sa.Engine) -> list[str]:
    rows = fetch(engine, "SELECT kind FROM forge.interaction_events ORDER BY kind, id")
    return [row["kind"] for row in rows]


def test_events_of_what_ended_long_ago_go_but_not_the_end(
    aged: InteractionStore, postgres_engine: sa.Engine
) -> None:
    before = events(postgres_engine)
    assert before.count("claimed") == 9
    removed = aged.apply_retention(DATASET, events=90 * DAY, samples=90 * DAY)
    # Seven claims and what replaced the row and those below it.
    assert removed == Removed(events=7 + before.count("superseded"), samples=2)
    after = events(postgres_engine)
    # The one that ended today and the one that has not ended.
    assert after.count("claimed") == 2
    ends = ("completed", "rejected", "skipped")
    assert [kind for kind in after if kind in ends] == [kind for kind in before if kind in ends]
    assert aged.apply_retention(DATASET, events=90 * DAY, samples=90 * DAY) == Removed()
    assert len(aged.samples([RUN])) == 1


def test_none_keeps_for_ever(aged: InteractionStore, postgres_engine: sa.Engine) -> None:
    before = events(postgres_engine)
    assert aged.apply_retention(DATASET, events=None, samples=None) == Removed()
    assert events(postgres_engine) == before


def test_batches_are_bounded_and_the_next_call_goes_on(aged: InteractionStore) -> None:
    first = aged.apply_retention(DATASET, events=DAY, samples=None, batch_rows=2, max_batches=2)
    assert first == Removed(events=4)
    rest = aged.apply_retention(DATASET, events=DAY, samples=None, batch_rows=2, max_batches=100)
    assert rest.events > 4
    assert aged.apply_retention(DATASET, events=DAY, samples=None) == Removed()


def test_a_row_in_work_keeps_its_events_however_old(
    aged: InteractionStore, postgres_engine: sa.Engine
) -> None:
    aged.plan_stage(CANARY, planned(), advance)
    aged.apply_retention(DATASET, events=0.0, samples=None)
    rows = fetch(
        postgres_engine,
        "SELECT i.status FROM forge.interaction_events e"
        " JOIN forge.interactions i ON i.id = e.interaction_id WHERE e.kind = 'claimed'",
    )
    assert [row["status"] for row in rows] == ["running"]


def test_what_is_of_another_dataset_is_left_alone(
    aged: InteractionStore, postgres_engine: sa.Engine
) -> None:
    aged.register_run(RUN, CANARY, pid=1, host="here")
    before = events(postgres_engine)
    assert aged.apply_retention("another", events=DAY, samples=DAY) == Removed()
    assert events(postgres_engine) == before
    assert aged.apply_retention(DATASET, events=None, samples=DAY) == Removed(samples=2)
