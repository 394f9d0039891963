"""The queries of the hot path use their indexes once there are rows enough."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from resources.database import create_engine
from resources.interaction_store import InteractionStore, StageScope
from tests.store.workshop import (
    ANCESTORS,
    DATASET,
    MODELS,
    VERSIONS,
    WORKFLOW,
    advance,
    claim,
    commit,
    completed,
    execute,
    planned,
)

SUBJECTS = 5_000
WHOLE = StageScope(DATASET, WORKFLOW, "whole", 0, SUBJECTS)
STAGE = StageScope(DATASET, WORKFLOW, "s-8", 4_000, 4_500)
CUT = [(f"s-{number}", number * 500, number * 500 + 500) for number in range(10)]


@pytest.fixture(scope="module")
def engine(module_postgres_url: str) -> Iterator[sa.Engine]:
    engine = create_engine(module_postgres_url)
    execute(
        engine,
        "INSERT INTO forge.subjects (dataset, key, ordinal, fields, content_hash)"
        " SELECT :dataset, 'key-' || n, n, jsonb_build_object('text', repeat('x', 200)), md5('' || n)"
        " FROM generate_series(0, :last) AS n",
        dataset=DATASET,
        last=SUBJECTS - 1,
    )
    store = InteractionStore(engine)
    store.sync_stages(DATASET, CUT)
    store.plan_stage(WHOLE, planned(), advance)
    yield engine
    engine.dispose()


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


@contextmanager
def statements(engine: sa.Engine) -> Iterator[list[tuple[str, Any]]]:
    """Everything that is sent meanwhile, with its parameters."""
    sent: list[tuple[str, Any]] = []

    def note(
        connection: Any, cursor: Any, sql: str, parameters: Any, context: Any, many: bool
    ) -> None:
        sent.append((sql, parameters))

    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)


def walks(engine: sa.Engine, sent: list[tuple[str, Any]], *tables: str) -> list[str]:
    """Of the statements those that would read one of the tables from end to end."""
    found = []
    with engine.connect() as connection:
        cursor = connection.connection.cursor()
        for sql, parameters in sent:
            if not sql.lstrip().startswith(("SELECT", "WITH", "INSERT", "UPDATE", "DELETE")):
                continue
            cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}", parameters)
            plan = cursor.fetchall()[0][0][0]["Plan"]
            names = {n["Relation Name"] for n in nodes(plan) if n["Node Type"] == "Seq Scan"}
            if names & set(tables):
                found.append(sql)
    return found


ROWS = ("interactions", "interaction_events", "subjects")


@pytest.mark.parametrize("suspects", [False, True])
def test_a_claim_reads_only_ready_rows_of_its_stage_and_model(
    engine: sa.Engine, suspects: bool
) -> None:
    with statements(engine) as sent:
        InteractionStore(engine).claim(
            STAGE,
            MODELS["summarize"],
            run_id="run-2",
            limit=32,
            lease_seconds=60,
            suspects=suspects,
            ancestors_of=ANCESTORS,
        )
    (sql, parameters), *_ = sent
    assert walks(engine, sent, *ROWS) == []
    with engine.connect() as connection:
        cursor = connection.connection.cursor()
        cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}", parameters)
        used = {node.get("Index Name") for node in nodes(cursor.fetchall()[0][0][0]["Plan"])}
    assert "interactions_ready" in used


def test_no_statement_of_the_hot_path_walks_the_whole_table(engine: sa.Engine) -> None:
    """All statements that claims, commits, leases and looks at the open work send."""
    store = InteractionStore(engine)
    with statements(engine) as sent:
        store.register_run("run-1", STAGE, pid=1, host="here")
        claims = claim(store, scope=STAGE, limit=32)
        store.extend_leases("run-1", [claimed.interaction_id for claimed in claims], 60)
        commit(store, *map(completed, claims))
        claim(store, "big", scope=STAGE, limit=32, versions=VERSIONS)
        store.planned_otherwise(STAGE, VERSIONS)
        store.open_work(STAGE, run_id="run-1")
        store.ready_models(STAGE)
        store.unfinished_subject_ids(STAGE, 10)
        store.unfinished_parents(STAGE, ["summarize"])
        store.ended_by_step(STAGE, VERSIONS)
        store.reclaim_expired(STAGE)
        store.reclaim_left_behind(STAGE)
        store.reclaim_run("run-1")
        store.plan_stage(STAGE, planned(), advance)
    assert len(sent) > 16
    assert walks(engine, sent, *ROWS) == []


def test_counts_read_tallies_and_not_what_they_count(engine: sa.Engine) -> None:
    """Also of stages that are partly done, whose subjects are looked for in their rows."""
    store = InteractionStore(engine)
    store.register_run("run-3", STAGE, pid=1, host="here")
    commit(store, *map(completed, claim(store, scope=STAGE, limit=8)))
    with statements(engine) as sent:
        store.sync_stages(DATASET, CUT)
        every = store.stage_counts(DATASET, WORKFLOW, VERSIONS)
        two = store.stage_counts(DATASET, WORKFLOW, VERSIONS, ["s-7", "s-8"])
        store.fold_tallies(DATASET, more_than=0)
    assert every[7:9] == two
    assert len(sent) > 5
    assert walks(engine, sent, *ROWS) == []
    # All stages need the rows of none but the one that is partly done.
    counting, *_ = [sql for sql, _ in sent if "interaction_tallies" in sql]
    assert "forge.interactions " not in counting


def test_retention_finds_what_is_old_by_an_index(engine: sa.Engine) -> None:
    execute(
        engine,
        "INSERT INTO forge.interaction_events (interaction_id, kind)"
        " SELECT i.id, 'completed' FROM forge.interactions i",
    )
    execute(engine, "ANALYZE forge.interaction_events")
    with statements(engine) as sent:
        InteractionStore(engine).apply_retention(STAGE.dataset, events=86400.0, samples=86400.0)
    assert len(sent) == 2
    assert walks(engine, sent, *ROWS) == []
