"""Ingestion: stable keys, ordinals without gaps, changed texts, memory."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from resources.interaction_store import IngestReport, InteractionStore, SubjectRecord
from resources.subject_store import CHUNK_RECORDS
from tests.store.workshop import (
    CANARY,
    DATASET,
    advance,
    claim,
    commit,
    completed,
    fetch,
    finish,
    planned,
    prepare,
    record,
    statuses,
    subjects,
)


def ordinals(engine: sa.Engine, dataset: str = DATASET) -> dict[str, int]:
    sql = "SELECT key, ordinal FROM forge.subjects WHERE dataset = :dataset ORDER BY ordinal"
    return {row["key"]: row["ordinal"] for row in fetch(engine, sql, dataset=dataset)}


def test_ingesting_again_changes_nothing(
    store: InteractionStore, postgres_engine: sa.Engine
) -> None:
    first = store.ingest(DATASET, subjects(3))
    rows = fetch(postgres_engine, "SELECT * FROM forge.subjects ORDER BY id")
    second = store.ingest(DATASET, subjects(3))
    assert (first.inserted, first.total) == (3, 3)
    assert second == IngestReport(unchanged=3, total=3)
    assert fetch(postgres_engine, "SELECT * FROM forge.subjects ORDER BY id") == rows


def test_ordinals_are_appended_in_source_order_without_gaps(
    store: InteractionStore, postgres_engine: sa.Engine
) -> None:
    store.ingest(DATASET, [record("c"), record("a")])
    store.ingest("another", [record("x")])
    store.ingest(DATASET, [record("b"), record("a"), record("z"), record("c")])
    assert ordinals(postgres_engine) == {"c": 0, "a": 1, "b": 2, "z": 3}
    assert ordinals(postgres_engine, "another") == {"x": 0}


def test_the_first_record_of_a_key_wins(
    store: InteractionStore, postgres_engine: sa.Engine
) -> None:
    report = store.ingest(DATASET, [record("a", text="first"), record("b"), record("a", text="2")])
    assert (report.inserted, report.duplicates, report.total) == (2, 1, 2)
    assert report.first_duplicate == "a"
    trace = store.trace(DATASET, None, "a")
    assert trace is not None
    assert trace.fields == {"text": "first"}
    assert store.ingest(DATASET, [record("a", text="first"), record("a", text="2")]).changed == 0


def test_duplicates_far_apart_are_seen(store: InteractionStore) -> None:
    many = subjects(CHUNK_RECORDS + 1)
    report = store.ingest(DATASET, [*many, many[7], *many[:5]])
    assert (report.inserted, report.duplicates) == (CHUNK_RECORDS + 1, 6)
    assert report.first_duplicate == many[7].key


def test_the_first_duplicate_is_kept_over_those_of_later_chunks(store: InteractionStore) -> None:
    many = subjects(2 * CHUNK_RECORDS)
    report = store.ingest(DATASET, [*many[:9], many[8], *many[9:], many[0]])
    assert (report.duplicates, report.first_duplicate) == (2, many[8].key)


def test_an_unchanged_source_has_no_duplicates(store: InteractionStore) -> None:
    for _ in range(2):
        report = store.ingest(DATASET, subjects(CHUNK_RECORDS + 1))
        assert (report.duplicates, report.first_duplicate) == (0, None)


def test_a_changed_text_keeps_the_old_one_and_supersedes_its_interactions(
    store: InteractionStore, postgres_engine: sa.Engine
) -> None:
    prepare(store, 2)
    finish(store)
    old, new = record("key-0", text="text 0"), record("key-0", text="better")
    report = store.ingest(DATASET, [new, *subjects(2)[1:]])
    assert (report.changed, report.unchanged, report.superseded) == (1, 1, 4)
    trace = store.trace(DATASET, None, "key-0")
    assert trace is not None
    assert (trace.ordinal, trace.fields, trace.content_hash) == (0, new.fields, new.content_hash)
    kept = [(version.fields, version.content_hash) for version in trace.earlier]
    assert kept == [(old.fields, old.content_hash)]
    assert {row.content_hash for row in trace.interactions} == {old.content_hash}
    assert all(row.superseded_at and row.output for row in trace.interactions)
    assert trace.interactions[0].events[-1].detail == {"reason": "the subject's text changed"}
    # Only this subject is done again.
    assert store.plan_stage(CANARY, planned(), advance).created == 4
    assert statuses(postgres_engine, "summarize") == ["pending", "completed"]


def test_a_result_for_the_old_text_is_refused(store: InteractionStore) -> None:
    prepare(store, 1)
    late = claim(store)[0]
    store.ingest(DATASET, [record("key-0", text="better")])
    assert commit(store, completed(late)).refused == (late.interaction_id,)
    store.plan_stage(CANARY, planned(), advance)
    again = claim(store)[0]
    assert again.fields == {"text": "better"}
    assert commit(store, completed(late)).refused == (late.interaction_id,)


def test_absent_subjects_stay_and_are_counted(store: InteractionStore) -> None:
    store.ingest(DATASET, subjects(3))
    gone = store.ingest(DATASET, subjects(3)[1:])
    assert (gone.absent, gone.total, gone.unchanged) == (1, 3, 2)
    trace = store.trace(DATASET, None, "key-0")
    assert trace is not None
    assert trace.absent_since is not None
    assert store.ingest(DATASET, subjects(3)).absent == 0


def test_an_error_while_reading_leaves_nothing_behind(store: InteractionStore) -> None:
    def broken() -> Iterator[SubjectRecord]:
        yield from subjects(CHUNK_RECORDS + 10)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        store.ingest(DATASET, broken())
    assert store.subject_count(DATASET) == 0
    assert store.ingest(DATASET, subjects(1)).inserted == 1


def test_a_source_without_records_marks_nobody_absent(store: InteractionStore) -> None:
    store.ingest(DATASET, subjects(2))
    assert store.ingest(DATASET, []) == IngestReport(total=2)
    assert store.ingest(DATASET, subjects(2)) == IngestReport(unchanged=2, total=2)


def test_field_names_follow_the_texts(store: InteractionStore) -> None:
    store.ingest(DATASET, [record("a", text="x", page=1), record("b", title="y")])
    assert store.field_names(DATASET) == {"text", "page", "title"}
    store.ingest(DATASET, [record("a", text="x"), record("b", title="y")])
    assert store.field_names(DATASET) == {"text", "title"}
    assert store.field_names("another") == set()


def test_records_are_read_while_they_are_stored(store: InteractionStore) -> None:
    """At most a chunk of records is alive at once, however many there are."""
    alive = 0
    most = 0

    class Counted(dict[str, str]):
        def __init__(self) -> None:
            nonlocal alive, most
            super().__init__(text="x")
            alive += 1
            most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    total = 3 * CHUNK_RECORDS
    report = store.ingest(
        DATASET, (SubjectRecord(f"k{number}", Counted(), "h") for number in range(total))
    )
    assert report.inserted == total
    assert most <= CHUNK_RECORDS


def test_awkward_texts_come_back_as_they_are(store: InteractionStore) -> None:
    awkward = {"a'b": '{x} %s :name \\ " \u2028 \U0001f600', "n": [1, None, {"deep": "\t\n"}]}
    store.ingest(DATASET, [SubjectRecord("k'\"%(x)s:y", awkward, "h")])
    trace = store.trace(DATASET, None, "k'\"%(x)s:y")
    assert trace is not None
    assert trace.fields == awkward


def test_subjects_of_a_stage_can_grow(store: InteractionStore) -> None:
    prepare(store, 4)
    finish(store)
    store.ingest(DATASET, subjects(6))
    assert (
        store.stage_counts(DATASET, CANARY.workflow, {"summarize": "summarize-1"})[0].missing == 2
    )
    assert store.plan_stage(CANARY, planned(), advance).created == 8
    assert [c.subject_key for c in claim(store)] == ["key-4", "key-5"]
    assert store.step_counts(CANARY)[0].completed == 4
