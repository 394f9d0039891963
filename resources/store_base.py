"""What the parts of the interaction store share: engine, lock order, text the database takes.

Lock order, so that no two transactions wait for each other: the dataset's lock, then subjects by id,
then interactions by id, then the tallies' lock. Claims, leases and expired leases take only rows that
nobody holds.
"""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from enum import IntEnum
from typing import Any

import sqlalchemy as sa

from resources.store_types import StageScope


class StoreLock(IntEnum):
    """First key of the store's transaction locks; the second is the hash of a name."""

    DATASET = 0x666F7211
    TALLIES = 0x666F7212


class StoreBase:
    """Every public method is one transaction, safe to call again after a lost connection."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine


def lock_transaction(connection: sa.Connection, lock: StoreLock, name: str) -> None:
    """Wait for the named lock; it is released with the transaction."""
    connection.execute(
        sa.text("SELECT pg_advisory_xact_lock(:space, hashtext(:name))"),
        {"space": int(lock), "name": name},
    )


def try_lock_transaction(connection: sa.Connection, lock: StoreLock, name: str) -> bool:
    """Take the named lock unless somebody holds it; it is released with the transaction."""
    query = sa.text("SELECT pg_try_advisory_xact_lock(:space, hashtext(:name))")
    return bool(connection.execute(query, {"space": int(lock), "name": name}).scalar_one())


def lock_subjects(connection: sa.Connection, subject_ids: Collection[int]) -> None:
    """Whoever changes rows of a subject holds it: two parents that end at once take turns."""
    connection.execute(
        sa.text(
            "SELECT id FROM forge.subjects WHERE id = ANY(CAST(:ids AS bigint[]))"
            " ORDER BY id FOR NO KEY UPDATE"
        ),
        {"ids": sorted(subject_ids)},
    )


def refresh_statistics(connection: sa.Connection, table: str, added: int) -> None:
    """Tell the planner of many new rows now: until autovacuum comes it would read whole tables."""
    known = "SELECT reltuples FROM pg_class WHERE oid = to_regclass(:table)"
    rows = connection.execute(sa.text(known), {"table": table}).scalar_one()
    if added * 10 >= rows:
        connection.execute(sa.text(f"ANALYZE {table}"))


def scope_values(scope: StageScope) -> dict[str, Any]:
    """Bind values for ``IN_SCOPE``."""
    return {
        "dataset": scope.dataset,
        "workflow": scope.workflow,
        "first": scope.first,
        "end": scope.end,
    }


IN_SCOPE = """
    i.dataset = :dataset AND i.workflow = :workflow AND i.superseded_at IS NULL
    AND i.ordinal >= :first AND i.ordinal < :end"""
"""The live rows ``i`` of a stage. It is what the index ``interactions_scope`` covers."""


def restriction(
    steps: Collection[str] | None, subject_ids: Collection[int] | None
) -> tuple[str, dict[str, Any]]:
    """SQL and bind values that keep only some steps or subjects of the rows ``i``."""
    sql = ""
    values: dict[str, Any] = {}
    if steps is not None:
        sql += " AND i.step = ANY(CAST(:steps AS text[]))"
        values["steps"] = list(steps)
    if subject_ids is not None:
        sql += " AND i.subject_id = ANY(CAST(:subject_ids AS bigint[]))"
        values["subject_ids"] = list(subject_ids)
    return sql, values


def bulk_json(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as one JSON array for ``json_to_recordset``, in text that PostgreSQL accepts.

    A model may write NUL characters or halves of surrogate pairs, and parsed JSON may hold NaN; the
    database refuses them. They become U+FFFD and null.
    """
    try:
        text = json.dumps(rows, ensure_ascii=False, allow_nan=False)
        text.encode()
        if "\\u0000" not in text:
            return text
    except ValueError:
        pass
    return json.dumps(storable(rows), ensure_ascii=False)


def storable(value: Any) -> Any:
    """The value without what PostgreSQL cannot keep."""
    if isinstance(value, str):
        text = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return text.replace("\0", "\ufffd")
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {storable(name): storable(entry) for name, entry in value.items()}
    if isinstance(value, Sequence):
        return [storable(entry) for entry in value]
    return value
