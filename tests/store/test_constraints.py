"""What the database itself refuses, whoever writes."""

from collections.abc import Iterator, Mapping

import pytest
import sqlalchemy as sa

from resources.database import create_engine
from resources.interaction_store import InteractionStore
from tests.store.workshop import claim, execute, fetch, prepare

WHOLE = {
    "status": "'completed'",
    "output": "''",
    "finished_at": "now()",
    "ready": "true",
    "attempts": "1",
    "claims": "1",
    "run_id": "'r'",
    "finished_token": "1",
}
"""What a model answered."""


def changes(values: Mapping[str, str]) -> str:
    return ", ".join(f"{column} = {value}" for column, value in values.items())


# Each touches one row that is pending and not ready (a step below the root).
REFUSED = {
    "unknown status": "status = 'done'",
    "running without a lease": "status = 'running', ready = true",
    "running without a run": "status = 'running', ready = true, token = 1, lease_until = now()",
    "running without being ready": (
        "status = 'running', token = 1, run_id = 'r', lease_until = now()"
    ),
    "a token without work": "token = 1",
    "completed without output": "status = 'completed', finished_at = now()",
    "rejected without a class": "status = 'rejected', output = 'x', finished_at = now()",
    "failed without a class": "status = 'failed', finished_at = now()",
    "skipped without a reason": "status = 'skipped', skip_kind = 'branch', finished_at = now()",
    "skipped without a kind": "status = 'skipped', skip_reason = 'x', finished_at = now()",
    "skipped of no known kind": (
        "status = 'skipped', skip_kind = 'x', skip_reason = 'x', finished_at = now()"
    ),
    "a reason without being skipped": "skip_kind = 'branch', skip_reason = 'x'",
    "final without an end": "status = 'completed', output = 'x'",
    "an end without being final": "finished_at = now()",
    "a retry time on a final row": (
        "status = 'completed', output = 'x', finished_at = now(), retry_at = now()"
    ),
    "superseded in work": (
        "status = 'running', ready = true, token = 1, run_id = 'r', lease_until = now(),"
        " superseded_at = now()"
    ),
    "an attempt that nobody claimed": "attempts = 1",
    "an answer without a token": changes(WHOLE | {"finished_token": "NULL"}),
    "an answer without a run": changes(WHOLE | {"run_id": "NULL"}),
    "an answer without an attempt": changes(WHOLE | {"attempts": "0"}),
    "an answer of what was not ready": changes(WHOLE | {"ready": "false"}),
    "skipped though it was ready": (
        "status = 'skipped', skip_kind = 'branch', skip_reason = 'x', finished_at = now(),"
        " ready = true"
    ),
}
WAITING = "(SELECT min(id) FROM forge.interactions WHERE NOT ready)"


@pytest.fixture(scope="module")
def engine(module_postgres_url: str) -> Iterator[sa.Engine]:
    engine = create_engine(module_postgres_url)
    prepare(InteractionStore(engine), 2)
    yield engine
    engine.dispose()


@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED.keys())
def test_impossible_rows_are_refused(engine: sa.Engine, change: str) -> None:
    with pytest.raises(sa.exc.IntegrityError, match="violates check constraint"):
        execute(engine, f"UPDATE forge.interactions SET {change} WHERE id = {WAITING}")


def test_the_same_rows_made_whole_are_taken(engine: sa.Engine) -> None:
    row = fetch(engine, f"SELECT {WAITING} AS id")[0]["id"]
    for change in (
        "status = 'running', ready = true, token = 1, run_id = 'r', lease_until = now()",
        "status = 'pending', ready = false, token = NULL, lease_until = NULL, retry_at = now()",
        f"retry_at = NULL, {changes(WHOLE)}",
        "status = 'rejected', error_class = 'contract'",
        "status = 'skipped', skip_kind = 'branch', skip_reason = 'x', ready = false",
        "status = 'pending', skip_kind = NULL, skip_reason = NULL, finished_at = NULL",
    ):
        assert execute(engine, f"UPDATE forge.interactions SET {change} WHERE id = {row}") == 1


def test_one_live_row_for_a_subject_and_step(engine: sa.Engine) -> None:
    columns = "subject_id, dataset, workflow, step, model, version, content_hash, ordinal"
    copy = (
        f"INSERT INTO forge.interactions ({columns}, superseded_at)"
        f" SELECT {columns}, {{superseded}} FROM forge.interactions WHERE id = {WAITING}"
    )
    with pytest.raises(sa.exc.IntegrityError, match="interactions_live"):
        execute(engine, copy.format(superseded="NULL"))
    assert execute(engine, copy.format(superseded="now()")) == 1


@pytest.mark.parametrize("moment", ["NULL", "now()"])
def test_what_was_superseded_stays_so(engine: sa.Engine, moment: str) -> None:
    """Also while no other row has taken its place."""
    row = "(SELECT max(id) FROM forge.interactions WHERE step = 'results')"
    change = f"UPDATE forge.interactions SET superseded_at = {{}} WHERE id = {row}"
    with engine.connect() as connection, connection.begin() as transaction:
        connection.execute(sa.text(change.format("now()")))
        with pytest.raises(sa.exc.IntegrityError, match="was superseded and stays so"):
            connection.execute(sa.text(change.format(moment)))
        transaction.rollback()


@pytest.mark.parametrize("table", ["interaction_events", "launch_events"])
def test_events_are_append_only(engine: sa.Engine, table: str) -> None:
    claim(InteractionStore(engine))
    execute(
        engine,
        "INSERT INTO forge.launches (id, state, path, project, region)"
        " VALUES (gen_random_uuid(), 'intended', 'direct', 'p', 'us-central1')",
    )
    execute(
        engine,
        "INSERT INTO forge.launch_events (launch_id, kind) SELECT id, 'intent' FROM forge.launches",
    )
    before = fetch(engine, f"SELECT * FROM forge.{table}")
    assert before
    with pytest.raises(sa.exc.IntegrityError, match="append-only"):
        execute(engine, f"UPDATE forge.{table} SET kind = 'other'")
    assert fetch(engine, f"SELECT * FROM forge.{table}") == before
    assert execute(engine, f"DELETE FROM forge.{table}") == len(before)


def test_a_subject_with_interactions_cannot_vanish(engine: sa.Engine) -> None:
    with pytest.raises(sa.exc.IntegrityError, match="foreign key"):
        execute(engine, "DELETE FROM forge.subjects")
