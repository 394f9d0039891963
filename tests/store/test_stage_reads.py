"""Counts of stages: what is lost, stale or missing shows; working time is a union of spans."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from resources.interaction import ErrorClass, Status
from resources.interaction_store import InteractionStore, StageCounts
from tests.store.workshop import (
    CANARY,
    DATASET,
    RUN,
    VERSIONS,
    WORKFLOW,
    claim,
    commit,
    completed,
    execute,
    failed,
    fetch,
    finish,
    prepare,
    rejected,
    subjects,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def canary(store: InteractionStore, versions: dict[str, str] = VERSIONS) -> StageCounts:
    return store.stage_counts(DATASET, WORKFLOW, versions)[0]


def set_span(engine: sa.Engine, run_id: str, start: float, end: float) -> None:
    """The run worked from ``start`` to ``end`` minutes past noon."""
    changed = execute(
        engine,
        "UPDATE forge.runs SET first_claim = :start, last_commit = :end WHERE run_id = :run_id",
        run_id=run_id,
        start=NOON + timedelta(minutes=start),
        end=NOON + timedelta(minutes=end),
    )
    assert changed == 1


def give_rows(engine: sa.Engine, run_id: str, ordinal: int) -> None:
    sql = "UPDATE forge.interactions SET run_id = :run_id WHERE ordinal = :ordinal"
    assert execute(engine, sql, run_id=run_id, ordinal=ordinal) == 4


def test_counts_of_every_stage_in_order(store: InteractionStore) -> None:
    prepare(store, 12)
    claims = claim(store)
    commit(store, rejected(claims[0]), failed(claims[1]), *map(completed, claims[2:9]))
    first, second, third = store.stage_counts(DATASET, WORKFLOW, VERSIONS)
    assert (first.partition, first.first, first.end, first.subjects) == ("canary-10", 0, 10, 10)
    assert (first.completed, first.rejected, first.failed, first.skipped) == (7, 1, 1, 6)
    assert (first.running, first.pending, first.missing, first.stale) == (1, 24, 0, 0)
    assert first.finished_subjects == 2
    assert (second.partition, second.subjects, second.missing) == ("ramp-50", 2, 8)
    assert (third.partition, third.subjects, third.missing) == ("full-500", 0, 0)
    assert (second.working_seconds, second.first_claim) == (0.0, None)


def test_a_row_deleted_behind_our_back_is_missing(
    store: InteractionStore, postgres_engine: sa.Engine
) -> None:
    prepare(store, 10)
    finish(store)
    assert (canary(store).completed, canary(store).missing) == (40, 0)
    execute(
        postgres_engine,
        "DELETE FROM forge.interactions WHERE id = (SELECT max(id) FROM forge.interactions)",
    )
    counts = canary(store)
    assert (counts.completed, counts.missing, counts.finished_subjects) == (39, 1, 9)


def test_rows_of_another_version_are_stale_and_missing(store: InteractionStore) -> None:
    prepare(store, 3)
    finish(store)
    changed = {**VERSIONS, "grade": "grade-2", "results": "results-2"}
    counts = canary(store, changed)
    assert (counts.completed, counts.stale, counts.missing) == (6, 6, 6)
    assert counts.finished_subjects == 0
    fewer = {name: version for name, version in VERSIONS.items() if name != "results"}
    counts = canary(store, fewer)
    assert (counts.completed, counts.stale, counts.missing, counts.steps) == (9, 3, 0, 3)


def test_rows_of_another_text_are_stale(
    store: InteractionStore, postgres_engine: sa.Engine
) -> None:
    prepare(store, 3)
    finish(store)
    execute(postgres_engine, "UPDATE forge.subjects SET content_hash = 'x' WHERE ordinal = 1")
    counts = canary(store)
    assert (counts.completed, counts.stale, counts.missing) == (8, 4, 4)


def test_working_time_begins_with_the_first_claim_and_ends_with_the_last_commit(
    store: InteractionStore, postgres_engine: sa.Engine
) -> None:
    prepare(store, 2)
    first = claim(store, limit=1)
    begun = fetch(postgres_engine, "SELECT * FROM forge.runs")[0]
    assert begun["first_claim"] is not None
    assert begun["last_commit"] is None
    commit(store, *map(completed, first))
    finish(store)
    ended = fetch(postgres_engine, "SELECT * FROM forge.runs")[0]
    counts = canary(store)
    assert ended["first_claim"] == begun["first_claim"] == counts.first_claim
    assert counts.last_commit == ended["last_commit"] > ended["first_claim"]
    seconds = (ended["last_commit"] - ended["first_claim"]).total_seconds()
    assert counts.working_seconds == pytest.approx(seconds)
    assert counts.per_minute == pytest.approx(60 * 8 / seconds)


@pytest.mark.parametrize(
    ("spans", "minutes", "worked", "union"),
    [
        ([(0, 10), (5, 20), (15, 18)], 20, 12, 20),  # overlapping and nested
        ([(0, 10), (60, 65), (64, 70)], 10, 8, 20),  # the second stretch made more
        ([(0, 10), (60, 65), (100, 101)], 1, 4, 16),  # as much in each: the latest
        ([(0, 30), (5, 10), (30, 31)], 31, 12, 31),  # nested and touching
        ([(0, 10), (0, 10), (0, 10)], 10, 12, 10),  # at once
    ],
)
def test_speed_is_that_of_the_stretch_of_work_that_made_the_most(
    store: InteractionStore,
    postgres_engine: sa.Engine,
    spans: list[tuple[float, float]],
    minutes: float,
    worked: int,
    union: float,
) -> None:
    prepare(store, 3)
    finish(store)
    for number, (start, end) in enumerate(spans):
        if number:
            store.register_run(f"run-{number + 1}", CANARY, pid=1, host="here")
        give_rows(postgres_engine, f"run-{number + 1}", number)
        set_span(postgres_engine, f"run-{number + 1}", start, end)
    counts = canary(store)
    assert (counts.working_seconds, counts.worked) == (60 * minutes, worked)
    assert counts.per_minute == pytest.approx(worked / minutes)
    assert counts.first_claim == NOON
    summary = fetch(
        postgres_engine,
        "SELECT per_minute FROM forge.interaction_summary WHERE step = 'summarize'",
    )
    assert summary[0]["per_minute"] == pytest.approx(3 / union)


def test_the_workers_of_a_run_are_one_stretch(
    store: InteractionStore, postgres_engine: sa.Engine
) -> None:
    """What one of them did before another began is not left out."""
    prepare(store, 3)
    finish(store)
    store.register_run(f"{RUN}/2", CANARY, pid=1, host="here")
    give_rows(postgres_engine, f"{RUN}/2", 1)
    set_span(postgres_engine, RUN, 0, 10)
    set_span(postgres_engine, f"{RUN}/2", 11, 12)
    counts = canary(store)
    assert (counts.working_seconds, counts.worked) == (720, 12)


def test_runs_that_own_no_current_row_do_not_count(
    store: InteractionStore, postgres_engine: sa.Engine
) -> None:
    prepare(store, 2)
    finish(store)
    set_span(postgres_engine, RUN, 0, 10)
    store.register_run("before", CANARY, pid=1, host="here")
    store.add_load("before", "small", 1.0, 10, "disk")
    set_span(postgres_engine, "before", 20, 30)
    assert (canary(store).working_seconds, canary(store).model_loads) == (600, 0)
    give_rows(postgres_engine, "before", 1)
    set_span(postgres_engine, "before", 5, 30)
    assert (canary(store).working_seconds, canary(store).model_loads) == (1800, 1)
    # Its rows are of another version now.
    execute(postgres_engine, "UPDATE forge.interactions SET version = 'old' WHERE ordinal = 1")
    assert (canary(store).working_seconds, canary(store).model_loads) == (600, 0)


def test_a_stage_cut_out_of_another_has_the_speed_of_the_run_that_made_it(
    store: InteractionStore, postgres_engine: sa.Engine
) -> None:
    prepare(store, 4)
    finish(store)
    set_span(postgres_engine, RUN, 0, 10)
    stages = [("small-1", 0, 1), ("rest-3", 1, 4)]
    store.sync_stages(DATASET, stages)
    for counts in store.stage_counts(DATASET, WORKFLOW, VERSIONS):
        assert (counts.working_seconds, counts.worked) == (600, 16)
        assert counts.per_minute == pytest.approx(1.6)


def test_what_has_ended_of_each_step_is_of_today_s_version_and_text(
    store: InteractionStore, postgres_engine: sa.Engine
) -> None:
    prepare(store, 3)
    assert store.ended_by_step(CANARY, VERSIONS) == {}
    finish(store)
    assert store.ended_by_step(CANARY, VERSIONS) == dict.fromkeys(VERSIONS, 3)
    execute(postgres_engine, "UPDATE forge.subjects SET content_hash = 'x' WHERE ordinal = 1")
    assert store.ended_by_step(CANARY, VERSIONS) == dict.fromkeys(VERSIONS, 2)
    changed = {**VERSIONS, "results": "new"}
    assert store.ended_by_step(CANARY, changed) == {
        name: 2 for name in VERSIONS if name != "results"
    }


def test_a_run_that_claimed_and_never_committed_has_no_span(store: InteractionStore) -> None:
    prepare(store, 2)
    claim(store)
    assert canary(store).working_seconds == 0.0
    assert canary(store).per_minute is None


def test_the_summary_view_shows_live_rows_by_step_and_model(
    store: InteractionStore, postgres_engine: sa.Engine
) -> None:
    prepare(store, 4)
    claims = claim(store)
    commit(store, rejected(claims[0]), failed(claims[1]), *map(completed, claims[2:]))
    rows = fetch(postgres_engine, "SELECT * FROM forge.interaction_summary")
    named = {(row["partition"], row["step"], row["model"]): row for row in rows}
    roots = named["canary-10", "summarize", "small"]
    assert (roots["dataset"], roots["workflow"]) == (DATASET, WORKFLOW)
    assert (roots["completed"], roots["rejected"], roots["failed"]) == (2, 1, 1)
    assert (roots["rejection_rate"], roots["error_rate"]) == (0.25, 0.25)
    assert roots["per_minute"] > 0
    grades = named["canary-10", "grade", "big"]
    assert (grades["pending"], grades["running"], grades["skipped"]) == (2, 0, 2)
    assert grades["rejection_rate"] is None
    assert len(rows) == 4


def test_step_and_model_counts(store: InteractionStore) -> None:
    prepare(store, 5)
    for number, claimed in enumerate(claim(store)):
        spent = {"seconds": number}
        result = completed(claimed, prompt_tokens=10, output_tokens=2, provenance=spent)
        commit(store, result)
    steps = store.step_counts(CANARY)
    assert [row.step for row in steps] == list(VERSIONS)
    first = steps[0]
    assert (first.completed, first.attempted, first.prompt_tokens) == (5, 5, 50)
    assert (first.p50_seconds, first.p95_seconds, first.max_seconds) == (2, 3.8, 4)
    assert (steps[2].model, steps[2].pending, steps[2].p50_seconds) == ("big", 5, None)
    models = {row.model: row for row in store.model_counts(CANARY)}
    assert (models["small"].completed, models["small"].pending) == (5, 10)
    assert (models["small"].output_tokens, models["small"].max_seconds) == (10, 4)
    assert (models["big"].attempted, models["big"].pending) == (0, 5)


def test_seconds_are_measured_when_nobody_tells_them(store: InteractionStore) -> None:
    prepare(store, 1)
    claimed = claim(store)[0]
    commit(store, completed(claimed))
    row = store.get_interaction_by_id(claimed.interaction_id)
    assert row is not None
    assert row.seconds is not None
    assert row.claimed_at is not None
    assert row.finished_at is not None
    spent = (row.finished_at - row.claimed_at).total_seconds()
    assert row.seconds == pytest.approx(spent, abs=0.01)


def test_worst_examples_and_failures_by_class(store: InteractionStore) -> None:
    prepare(store, 6)
    claims = claim(store)
    long = "x" * 1000
    commit(
        store,
        rejected(claims[0], "first"),
        rejected(claims[1], "second"),
        failed(claims[2], long),
        *map(completed, claims[3:]),
    )
    examples = store.worst_examples(CANARY, status=Status.REJECTED, limit=1)
    assert [(e.subject_key, e.step, e.reason) for e in examples] == [
        ("key-0", "summarize", "first")
    ]
    assert (examples[0].error_class, examples[0].output_excerpt) == (ErrorClass.CONTRACT, "no")
    assert store.worst_examples(CANARY, status=Status.REJECTED, step="grade") == []
    skipped = store.worst_examples(CANARY, status=Status.SKIPPED, step="grade")
    assert [e.reason for e in skipped] == ["summarize ended so"] * 3
    contract, engine = store.failures_by_class(CANARY)
    assert (contract.error_class, contract.status, contract.count, contract.message) == (
        ErrorClass.CONTRACT,
        Status.REJECTED,
        2,
        "first",
    )
    assert (engine.error_class, engine.count, engine.message) == (ErrorClass.ENGINE, 1, long)
    assert (engine.subject_key, engine.step) == ("key-2", "summarize")


def test_a_long_output_is_cut_in_examples_only(store: InteractionStore) -> None:
    prepare(store, 1)
    claimed = claim(store)[0]
    commit(store, completed(claimed, "y" * 5000))
    excerpt = store.worst_examples(CANARY, status=Status.COMPLETED)[0].output_excerpt
    assert excerpt == "y" * 300 + " ..."
    row = store.get_interaction_by_id(claimed.interaction_id)
    assert row is not None
    assert row.output == "y" * 5000


def test_result_rows_have_one_row_a_subject(store: InteractionStore) -> None:
    prepare(store, 2)
    first, second = claim(store)
    commit(store, completed(first, "short", parsed={"n": 1}), rejected(second))
    finish(store)
    rows = store.result_rows(CANARY)
    assert [(row["key"], row["ordinal"], row["fields"]) for row in rows] == [
        (subject.key, number, subject.fields) for number, subject in enumerate(subjects(2))
    ]
    assert list(rows[0]["steps"]) == list(VERSIONS)
    assert rows[0]["steps"]["summarize"] == {
        "interaction_id": first.interaction_id,
        "status": "completed",
        "output": "short",
        "parsed": {"n": 1},
        "error_class": None,
        "reason": None,
    }
    refused = rows[1]["steps"]
    assert (refused["summarize"]["error_class"], refused["summarize"]["reason"]) == (
        "contract",
        "too short",
    )
    assert (refused["grade"]["status"], refused["grade"]["reason"]) == (
        "skipped",
        "summarize ended so",
    )
