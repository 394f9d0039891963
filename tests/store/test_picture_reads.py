"""What the plots of a stage show: only its live rows, and time without the pauses."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from resources.interaction_store import InteractionStore, StageScope
from resources.picture_reads import LATENCY_BINS, BatchBin, PictureReads, WorkSpan
from resources.store_types import ResourceSample
from tests.store.test_query_plans import statements, walks
from tests.store.workshop import (
    CANARY,
    RUN,
    WORKFLOW,
    claim,
    commit,
    completed,
    execute,
    failed,
    prepare,
    rejected,
)

START = datetime(2025, 1, 1, tzinfo=UTC)
OTHER = StageScope(CANARY.dataset, WORKFLOW, "ramp-50", 10, 60)


@pytest.fixture
def reads(postgres_engine: sa.Engine) -> PictureReads:
    return PictureReads(postgres_engine)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def span(start: float, end: float, before: float) -> WorkSpan:
    return WorkSpan(at(start), at(end), before)


def work(engine: sa.Engine, store: InteractionStore) -> None:
    """Six subjects, their root step made in two runs with a pause of 1000 s: 4 at 10..40 s by RUN,
    2 at 1110 and 1120 s by another. Two are rejected or failed."""
    prepare(store, 6)
    first = claim(store, limit=4)
    commit(store, *map(completed, first[:3]), rejected(first[3]))
    store.register_run("later", CANARY, pid=1, host="here")
    more = claim(store, run_id="later", limit=2, steps=["summarize"])
    ended = [completed(more[0]), failed(more[1])]
    store.commit("later", ended, lambda states: {})
    for run, start, end in ((RUN, 0, 50), ("later", 1050, 1130)):
        execute(
            engine,
            "UPDATE forge.runs SET first_claim = :start, last_commit = :end WHERE run_id = :run",
            start=at(start),
            end=at(end),
            run=run,
        )
    times = [(one.interaction_id, 10.0 * n) for n, one in enumerate(first, 1)]
    times += [(one.interaction_id, 1100.0 + 10 * n) for n, one in enumerate(more, 1)]
    for number, (interaction, seconds) in enumerate(times):
        execute(
            engine,
            "UPDATE forge.interactions SET finished_at = :at, seconds = :seconds,"
            " provenance = jsonb_build_object('engine', 'e', 'batch_size', CAST(:size AS integer))"
            " WHERE id = :id",
            at=at(seconds),
            seconds=10.0 ** (number - 1),
            size=4 if number < 4 else 2,
            id=interaction,
        )


@pytest.fixture
def worked(postgres_engine: sa.Engine, store: InteractionStore) -> InteractionStore:
    work(postgres_engine, store)
    return store


@pytest.mark.usefixtures("worked")
def test_spans_are_one_after_another(reads: PictureReads) -> None:
    assert reads.working_spans(CANARY) == [span(0, 50, 0), span(1050, 1130, 50)]
    assert reads.working_spans(OTHER) == []


def test_workers_at_once_are_one_span(
    worked: InteractionStore, reads: PictureReads, postgres_engine: sa.Engine
) -> None:
    moved = "UPDATE forge.runs SET first_claim = :start WHERE run_id = 'later'"
    execute(postgres_engine, moved, start=at(50))
    assert reads.working_spans(CANARY) == [span(0, 1130, 0)]


def test_a_run_whose_results_were_made_anew_counts_no_more(
    worked: InteractionStore, reads: PictureReads, postgres_engine: sa.Engine
) -> None:
    execute(
        postgres_engine,
        "UPDATE forge.interactions SET superseded_at = clock_timestamp() WHERE run_id = 'later'",
    )
    assert reads.working_spans(CANARY) == [span(0, 50, 0)]
    assert sum(entry.interactions for entry in reads.latencies(CANARY)) == 4


@pytest.mark.usefixtures("worked")
def test_what_ended_is_counted_by_seconds_of_work(reads: PictureReads) -> None:
    spans = reads.working_spans(CANARY)
    # 1110 and 1120 s are 110 and 120 s of work.
    assert reads.finished(CANARY, spans, 25) == {0: 2, 1: 2, 4: 2}
    assert reads.finished(CANARY, spans, 1000) == {0: 6}
    assert reads.finished(OTHER, spans, 25) == {}
    assert reads.finished(CANARY, [], 25) == {}


def test_a_subject_ends_with_the_last_of_its_steps(
    worked: InteractionStore, reads: PictureReads, postgres_engine: sa.Engine
) -> None:
    spans = reads.working_spans(CANARY)
    # Of those with a rejected or failed root nothing is left; the others have steps open.
    assert reads.finished(CANARY, spans, 200, "subjects") == {0: 1}
    execute(
        postgres_engine,
        "UPDATE forge.interactions SET status = 'skipped', skip_kind = 'branch', skip_reason = 'x',"
        " ready = false, finished_at = clock_timestamp() WHERE status = 'pending'",
    )
    assert reads.finished(CANARY, spans, 200, "subjects") == {0: 6}


@pytest.mark.usefixtures("worked")
def test_latencies_are_in_bins_of_a_logarithm(reads: PictureReads) -> None:
    found = {entry.place: entry.interactions for entry in reads.latencies(CANARY)}
    assert found == {n * LATENCY_BINS: 1 for n in range(-1, 5)}
    assert {(entry.step, entry.model) for entry in reads.latencies(CANARY)} == {
        ("summarize", "small")
    }
    assert reads.latencies(OTHER) == []


def test_what_no_model_was_asked_for_has_no_latency_and_no_batch(
    worked: InteractionStore, reads: PictureReads, postgres_engine: sa.Engine
) -> None:
    """A prompt that could not be made."""
    execute(postgres_engine, "UPDATE forge.interactions SET provenance = '{}'")
    assert reads.latencies(CANARY) == []
    assert reads.batch_sizes(CANARY) == []


@pytest.mark.usefixtures("worked")
def test_batch_sizes_count_interactions(reads: PictureReads) -> None:
    assert reads.batch_sizes(CANARY) == [BatchBin("small", 2, 2), BatchBin("small", 4, 4)]


def sample(run: str, seconds: float, used: int, *gpus: int) -> ResourceSample:
    devices = tuple(
        {"index": n, "name": "card", "memory_used": memory, "memory_total": 80}
        for n, memory in enumerate(gpus)
    )
    return ResourceSample(run, 64, 64 - used, 5, 1, 4, 100, devices, at(seconds))


def test_memory_is_the_most_of_each_bucket(store: InteractionStore, reads: PictureReads) -> None:
    store.add_samples(
        [
            sample("one", 0, 10, 1, 2),
            sample("one", 4, 30, 9, 2),
            sample("one", 10, 20, 5, 3),
            sample("two", 1000, 40),
            sample("two", 1010, 50),
        ]
    )
    spans = reads.sampled_spans(["one", "two"])
    assert spans == [span(0, 10, 0), span(1000, 1010, 10)]
    found = reads.memory(["one", "two"], spans, 10)
    by_device = {
        device: [(point.seconds, point.used) for point in found if point.device == device]
        for device in (None, "0 card", "1 card")
    }
    assert by_device == {
        None: [(5, 30), (15, 40), (25, 50)],
        "0 card": [(5, 9), (15, 5)],
        "1 card": [(5, 2), (15, 3)],
    }
    assert {point.total for point in found} == {64, 80}
    assert reads.memory([], [], 10) == []


def test_the_reads_of_a_stage_do_not_walk_the_store(
    postgres_engine: sa.Engine, store: InteractionStore, reads: PictureReads
) -> None:
    execute(
        postgres_engine,
        "INSERT INTO forge.subjects (dataset, key, ordinal, fields, content_hash)"
        " SELECT :dataset, 'key-' || n, n, '{}', md5('' || n) FROM generate_series(0, 4999) AS n",
        dataset=CANARY.dataset,
    )
    execute(
        postgres_engine,
        "INSERT INTO forge.interactions (subject_id, dataset, workflow, step, model, version,"
        " content_hash, ordinal) SELECT id, dataset, :workflow, 'summarize', 'small', 'v',"
        " content_hash, ordinal FROM forge.subjects",
        workflow=WORKFLOW,
    )
    execute(postgres_engine, "ANALYZE forge.interactions, forge.subjects")
    spans = [span(0, 50, 0)]
    with statements(postgres_engine) as sent:
        reads.working_spans(CANARY)
        reads.finished(CANARY, spans, 10)
        reads.finished(CANARY, spans, 10, "subjects")
        reads.latencies(CANARY)
        reads.batch_sizes(CANARY)
    assert len(sent) == 5
    assert walks(postgres_engine, sent, "interactions", "subjects", "interaction_events") == []
