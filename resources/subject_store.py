"""Subjects: kept under a stable key, numbered in the order of their first appearance."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import sqlalchemy as sa

from resources.store_base import (
    StoreBase,
    StoreLock,
    bulk_json,
    lock_subjects,
    lock_transaction,
    refresh_statistics,
)
from resources.store_supersede import supersede_rows
from resources.store_types import IngestReport
from resources.subject_record import SubjectRecord

CHUNK_RECORDS = 1_000
CHUNK_CHARACTERS = 8_000_000

_INCOMING = """
CREATE TEMPORARY TABLE incoming_subjects (
    position bigint NOT NULL, key text PRIMARY KEY,
    fields jsonb NOT NULL, content_hash text NOT NULL
) ON COMMIT DROP"""

# The first record of a key wins.
_ADD_INCOMING = """
INSERT INTO incoming_subjects (position, key, fields, content_hash)
SELECT position, key, fields, content_hash FROM json_to_recordset(CAST(:rows AS json))
    AS r(position bigint, key text, fields jsonb, content_hash text)
ORDER BY position ON CONFLICT (key) DO NOTHING"""

# Of a chunk that was added just now: the first of its keys that another record holds.
_FIRST_DUPLICATE = """
SELECT r.key FROM json_to_recordset(CAST(:rows AS json)) AS r(position bigint, key text)
JOIN incoming_subjects n ON n.key = r.key AND n.position <> r.position
ORDER BY r.position LIMIT 1"""

_CHANGED = """
SELECT s.id FROM forge.subjects s JOIN incoming_subjects n ON n.key = s.key
WHERE s.dataset = :dataset AND s.content_hash <> n.content_hash"""

_KEEP_OLD = """
INSERT INTO forge.subject_versions (subject_id, content_hash, fields)
SELECT id, content_hash, fields FROM forge.subjects WHERE id = ANY(CAST(:ids AS bigint[]))"""

_REPLACE = """
UPDATE forge.subjects s
SET fields = n.fields, content_hash = n.content_hash, updated_at = clock_timestamp()
FROM incoming_subjects n
WHERE s.id = ANY(CAST(:ids AS bigint[])) AND n.key = s.key"""

_MARK_ABSENT = """
UPDATE forge.subjects s SET absent_since = clock_timestamp()
WHERE s.dataset = :dataset AND s.absent_since IS NULL
  AND NOT EXISTS (SELECT FROM incoming_subjects n WHERE n.key = s.key)"""

_MARK_PRESENT = """
UPDATE forge.subjects s SET absent_since = NULL
FROM incoming_subjects n
WHERE s.dataset = :dataset AND s.absent_since IS NOT NULL AND n.key = s.key"""

_INSERT = """
INSERT INTO forge.subjects (dataset, key, ordinal, fields, content_hash)
SELECT :dataset, n.key,
       (SELECT coalesce(max(ordinal) + 1, 0) FROM forge.subjects WHERE dataset = :dataset)
           + row_number() OVER (ORDER BY n.position) - 1,
       n.fields, n.content_hash
FROM incoming_subjects n
WHERE NOT EXISTS (SELECT FROM forge.subjects s WHERE s.dataset = :dataset AND s.key = n.key)
ORDER BY n.position"""

_FIELD_NAMES = """
INSERT INTO forge.subject_fields (dataset, name)
SELECT DISTINCT :dataset, name
FROM forge.subjects s, LATERAL jsonb_object_keys(s.fields) AS name WHERE s.dataset = :dataset"""


class SubjectStore(StoreBase):
    """A dataset is one configured source; its ordinals have no gaps and are never given twice."""

    def ingest(self, dataset: str, records: Iterable[SubjectRecord]) -> IngestReport:
        """Take in a source, in one transaction: an error while reading it leaves nothing behind.

        A known key with another content hash replaces the subject's fields, keeps the old ones in
        ``subject_versions`` and supersedes the subject's interactions. Subjects that the source no
        longer has stay, marked absent. Of several records with one key the first wins, and the
        report counts the others.
        """
        with self._engine.begin() as connection:
            # The source may take its time between two records.
            connection.execute(sa.text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            lock_transaction(connection, StoreLock.DATASET, dataset)
            connection.execute(sa.text(_INCOMING))
            read = kept = 0
            duplicate: str | None = None
            for rows, count in _chunks(records):
                kept += connection.execute(sa.text(_ADD_INCOMING), {"rows": rows}).rowcount
                read += count
                if kept < read and duplicate is None:
                    duplicate = connection.execute(
                        sa.text(_FIRST_DUPLICATE), {"rows": rows}
                    ).scalar_one()
            if not read:
                return IngestReport(total=_count(connection, dataset))
            connection.execute(sa.text("ANALYZE incoming_subjects"))
            report = _merge(connection, dataset, kept=kept)
        return replace(report, duplicates=read - kept, first_duplicate=duplicate)

    def subject_count(self, dataset: str) -> int:
        with self._engine.connect() as connection:
            return _count(connection, dataset)

    def field_names(self, dataset: str) -> set[str]:
        """The names that the fields of at least one subject have."""
        query = sa.text("SELECT name FROM forge.subject_fields WHERE dataset = :dataset")
        with self._engine.connect() as connection:
            return set(connection.execute(query, {"dataset": dataset}).scalars())


def _merge(connection: sa.Connection, dataset: str, *, kept: int) -> IngestReport:
    values = {"dataset": dataset}
    changed = list(connection.execute(sa.text(_CHANGED), values).scalars())
    superseded = 0
    if changed:
        lock_subjects(connection, changed)
        connection.execute(sa.text(_KEEP_OLD), {"ids": changed})
        # First, or a trigger would mark each live row as one of an old text.
        superseded = supersede_rows(connection, changed, "true", {}, "the subject's text changed")
        connection.execute(sa.text(_REPLACE), {"ids": changed})
    connection.execute(sa.text(_MARK_ABSENT), values)
    connection.execute(sa.text(_MARK_PRESENT), values)
    inserted = connection.execute(sa.text(_INSERT), values).rowcount
    if inserted:
        refresh_statistics(connection, "forge.subjects", inserted)
    if changed or inserted:
        connection.execute(
            sa.text("DELETE FROM forge.subject_fields WHERE dataset = :dataset"), values
        )
        connection.execute(sa.text(_FIELD_NAMES), values)
    absent = "SELECT count(*) FROM forge.subjects WHERE dataset = :dataset AND absent_since NOTNULL"
    return IngestReport(
        inserted=inserted,
        changed=len(changed),
        unchanged=kept - inserted - len(changed),
        absent=connection.execute(sa.text(absent), values).scalar_one(),
        total=_count(connection, dataset),
        superseded=superseded,
    )


def _count(connection: sa.Connection, dataset: str) -> int:
    query = sa.text("SELECT count(*) FROM forge.subjects WHERE dataset = :dataset")
    return connection.execute(query, {"dataset": dataset}).scalar_one()


def _chunks(records: Iterable[SubjectRecord]) -> Iterator[tuple[str, int]]:
    """JSON arrays of records and how many each holds; a chunk's size is bounded in both."""
    rows: list[str] = []
    characters = 0
    for position, record in enumerate(records):
        row = {
            "position": position,
            "key": record.key,
            "fields": record.fields,
            "content_hash": record.content_hash,
        }
        rows.append(bulk_json([row])[1:-1])
        characters += len(rows[-1])
        if len(rows) == CHUNK_RECORDS or characters > CHUNK_CHARACTERS:
            yield f"[{','.join(rows)}]", len(rows)
            rows, characters = [], 0
    if rows:
        yield f"[{','.join(rows)}]", len(rows)
