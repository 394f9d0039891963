"""Retiring rows: the old version is kept, refuses results, and makes room for a new pending row."""

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

# A row in work goes back to pending: it never ended, and its lease is void.
_SUPERSEDE = """
WITH live AS (
    SELECT i.id FROM forge.interactions i
    WHERE i.superseded_at IS NULL AND i.subject_id = ANY(CAST(:subjects AS bigint[])) AND ({where})
    ORDER BY i.id FOR UPDATE
), gone AS (
    UPDATE forge.interactions i
    SET superseded_at = clock_timestamp(), retry_at = NULL, token = NULL, lease_until = NULL,
        status = CASE i.status WHEN 'running' THEN 'pending' ELSE i.status END
    FROM live WHERE i.id = live.id
    RETURNING i.id, i.run_id, i.attempts
)
INSERT INTO forge.interaction_events (interaction_id, kind, run_id, attempt, detail)
SELECT id, 'superseded', run_id, attempts, jsonb_build_object('reason', CAST(:reason AS text))
FROM gone ORDER BY id"""


def supersede_rows(
    connection: sa.Connection,
    subject_ids: Collection[int],
    where: str,
    values: dict[str, Any],
    reason: str,
) -> int:
    """Retire the live rows ``i`` of subjects that the caller holds. How many there were."""
    if not subject_ids:
        return 0
    return connection.execute(
        sa.text(_SUPERSEDE.format(where=where)),
        {**values, "subjects": sorted(subject_ids), "reason": reason},
    ).rowcount
