"""The queries of the hot path use their indexes once there are rows enough."""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from resources.claim_store import CLAIM, UNSUSPECTED
from resources.database import create_engine
from resources.interaction_store import InteractionStore, StageScope
from resources.store_base import scope_values
from tests.store.workshop import (
    DATASET,
    MODELS,
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
STAGE = StageScope(DATASET, WORKFLOW, "batch", 4_000, 4_500)


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
    store.sync_stages(DATASET, [(f"s-{n}", n * 500, n * 500 + 500) for n in range(10)])
    store.plan_stage(WHOLE, planned(), advance)
    yield engine
    engine.dispose()


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def explained(engine: sa.Engine, sql: str, values: dict[str, Any]) -> list[dict[str, Any]]:
    with engine.connect() as connection:
        answer = connection.execute(sa.text(f"EXPLAIN (FORMAT JSON) {sql}"), values).scalar_one()
    return list(nodes(answer[0]["Plan"]))


def test_a_claim_reads_only_ready_rows_of_its_stage_and_model(engine: sa.Engine) -> None:
    values = {
        **scope_values(STAGE),
        "partition": STAGE.partition,
        "model": MODELS["summarize"],
        "run_id": "run-1",
        "limit": 32,
        "lease": 60,
    }
    plan = explained(engine, CLAIM.format(restriction="", losses=UNSUSPECTED), values)
    on_rows = [node for node in plan if node.get("Relation Name") == "interactions"]
    assert [node["Node Type"] for node in on_rows if node["Node Type"] == "Seq Scan"] == []
    assert "interactions_ready" in {node.get("Index Name") for node in plan}


def test_no_read_of_the_hot_path_walks_the_whole_table(engine: sa.Engine) -> None:
    """All statements that a claim, a commit and a look at the open work send are explained."""
    sent: list[tuple[str, Any]] = []

    def note(
        connection: Any, cursor: Any, sql: str, parameters: Any, context: Any, many: bool
    ) -> None:
        sent.append((sql, parameters))

    store = InteractionStore(engine)
    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        store.register_run("run-1", STAGE, pid=1, host="here")
        commit(store, *map(completed, claim(store, scope=STAGE, limit=32)))
        claim(store, "big", scope=STAGE, limit=32)
        store.open_work(STAGE)
        store.ready_models(STAGE)
        store.unfinished_subject_ids(STAGE, 10)
        store.reclaim_expired(STAGE)
        store.plan_stage(STAGE, planned(), advance)
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)
    walked = []
    with engine.connect() as connection:
        for sql, parameters in sent:
            cursor = connection.connection.cursor()
            cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}", parameters)
            for node in nodes(cursor.fetchall()[0][0][0]["Plan"]):
                whole = node["Node Type"] == "Seq Scan"
                if whole and node["Relation Name"] in ("interactions", "interaction_events"):
                    walked.append(sql)
    assert len(sent) > 10
    assert walked == []
