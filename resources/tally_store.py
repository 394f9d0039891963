"""Tallies: the interactions counted by stage, kept by triggers as rows that are added up.

A trigger inserts what its statement changed and never updates, so that workers do not wait for each
other. Folding replaces the rows of a stage by their sums.
"""

import sqlalchemy as sa

from resources.store_base import StoreBase, StoreLock, lock_transaction, try_lock_transaction

FOLD_ABOVE = 2_000
"""Rows not folded yet from which on it pays: reading as many takes about a millisecond."""

_MORE_THAN = """
SELECT count(*) > :limit FROM (
    SELECT FROM forge.interaction_tallies
    WHERE dataset = :dataset AND NOT folded LIMIT :limit + 1
) x"""

# Only of the stages in which something happened since.
_FOLD = """
WITH taken AS (
    DELETE FROM forge.interaction_tallies t
    USING (SELECT DISTINCT d.workflow, d.stage FROM forge.interaction_tallies d
           WHERE d.dataset = :dataset AND NOT d.folded) x
    WHERE t.dataset = :dataset AND t.workflow = x.workflow AND t.stage = x.stage
    RETURNING t.dataset, t.workflow, t.stage, t.step, t.version, t.status, t.old_text, t.run_id, t.n
), kept AS (
    INSERT INTO forge.interaction_tallies
        (dataset, workflow, stage, step, version, status, old_text, run_id, n, folded)
    SELECT dataset, workflow, stage, step, version, status, old_text, run_id, sum(n), true
    FROM taken
    GROUP BY dataset, workflow, stage, step, version, status, old_text, run_id
    HAVING sum(n) <> 0
    RETURNING 1
)
SELECT (SELECT count(*) FROM taken) - (SELECT count(*) FROM kept)"""

# One lookup a subject, not one a row.
_REBUILD = """
INSERT INTO forge.interaction_tallies
    (dataset, workflow, stage, step, version, status, old_text, run_id, n, folded)
SELECT i.dataset, i.workflow, coalesce(p.stage, -1), i.step, i.version, i.status, i.old_text,
       CASE WHEN i.status IN ('completed', 'rejected', 'failed') THEN i.run_id END, count(*), true
FROM forge.interactions i
LEFT JOIN (
    SELECT st.ordinal_from AS stage, ordinal
    FROM forge.stages st,
         (SELECT max(ordinal) AS last FROM forge.subjects WHERE dataset = :dataset) s,
         generate_series(st.ordinal_from, least(st.ordinal_to - 1, s.last)) AS ordinal
    WHERE st.dataset = :dataset
) p ON p.ordinal = i.ordinal
WHERE i.dataset = :dataset AND i.superseded_at IS NULL
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8"""

PLANNED_OTHERWISE = """EXISTS (
    SELECT FROM forge.interaction_tallies t
    WHERE t.dataset = :dataset AND t.workflow = :workflow AND t.stage = :first
      AND t.version IS DISTINCT FROM CAST(:versions AS jsonb) ->> t.step
    GROUP BY t.step, t.version HAVING sum(t.n) > 0
)"""
"""Whether live rows of a stage are of other ``:versions`` of their steps, a JSON object."""


class TallyStore(StoreBase):
    def fold_tallies(self, dataset: str, *, more_than: int = FOLD_ABOVE) -> int:
        """Add up what was written since the last time if it is more rows than that.

        Beside writers; one at a time: who comes second leaves it to the first. How many rows fewer.
        """
        with self._engine.begin() as connection:
            return fold_tallies(connection, dataset, more_than)


def fold_tallies(connection: sa.Connection, dataset: str, more_than: int = FOLD_ABOVE) -> int:
    values = {"dataset": dataset, "limit": more_than}
    if not connection.execute(sa.text(_MORE_THAN), values).scalar_one():
        return 0
    if not try_lock_transaction(connection, StoreLock.TALLIES, dataset):
        return 0
    return int(connection.execute(sa.text(_FOLD), values).scalar_one())


def rebuild_tallies(connection: sa.Connection, dataset: str) -> None:
    """Count anew, by the stages as they are now. Call ``keep_writers_out`` before changing them."""
    lock_transaction(connection, StoreLock.TALLIES, dataset)
    delete = "DELETE FROM forge.interaction_tallies WHERE dataset = :dataset"
    connection.execute(sa.text(delete), {"dataset": dataset})
    connection.execute(sa.text(_REBUILD), {"dataset": dataset})


def keep_writers_out(connection: sa.Connection) -> None:
    """Until the transaction ends nobody changes an interaction; reading goes on."""
    connection.execute(sa.text("LOCK TABLE forge.interactions IN SHARE ROW EXCLUSIVE MODE"))
