"""Removing what nobody asks for any more: events of work that is long over, old readings.

What remains of an interaction for ever is its row and the event of its end.
"""

from dataclasses import dataclass

import sqlalchemy as sa

from resources.store_base import StoreBase

BATCH_ROWS = 5_000
MAX_BATCHES = 20
"""In one call: who ends a run must not wait for years of history. The next one goes on."""

# A row ends once, so the events that say how are never removed. They are not in the index either.
_EVENTS = """
WITH old AS (
    SELECT e.id, e.at FROM forge.interaction_events e
    JOIN forge.interactions i ON i.id = e.interaction_id
    WHERE i.dataset = :dataset AND e.kind NOT IN ('completed', 'rejected', 'failed', 'skipped')
      AND e.at < clock_timestamp() - CAST(:seconds AS double precision) * interval '1 second'
      AND e.at >= coalesce(CAST(:after AS timestamptz), '-infinity')
      AND coalesce(i.superseded_at, i.finished_at)
          < clock_timestamp() - CAST(:seconds AS double precision) * interval '1 second'
    ORDER BY e.at LIMIT :batch FOR UPDATE OF e SKIP LOCKED
), gone AS (
    DELETE FROM forge.interaction_events e WHERE e.id = ANY(ARRAY(SELECT id FROM old))
)
SELECT count(*) AS removed, max(at) AS last FROM old"""

_SAMPLES = """
WITH old AS (
    SELECT s.id, s.at FROM forge.resource_samples s
    WHERE s.at < clock_timestamp() - CAST(:seconds AS double precision) * interval '1 second'
      AND s.at >= coalesce(CAST(:after AS timestamptz), '-infinity')
      AND NOT EXISTS (
          SELECT FROM forge.runs r WHERE r.run_id = s.run_id AND r.dataset <> :dataset
      )
    ORDER BY s.at LIMIT :batch FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM forge.resource_samples s WHERE s.id = ANY(ARRAY(SELECT id FROM old))
)
SELECT count(*) AS removed, max(at) AS last FROM old"""


@dataclass(frozen=True, slots=True)
class Removed:
    events: int = 0
    samples: int = 0


class RetentionStore(StoreBase):
    def apply_retention(
        self,
        dataset: str,
        *,
        events: float | None,
        samples: float | None,
        batch_rows: int = BATCH_ROWS,
        max_batches: int = MAX_BATCHES,
    ) -> Removed:
        """Remove what of a dataset is older than so many seconds; None keeps it for ever.

        Events go with interactions that ended or were superseded longer ago than that, except the
        one of the end. One transaction a batch, ``max_batches`` of each kind at most.
        """
        return Removed(
            events=self._remove(_EVENTS, dataset, events, batch_rows, max_batches),
            samples=self._remove(_SAMPLES, dataset, samples, batch_rows, max_batches),
        )

    def _remove(
        self, statement: str, dataset: str, seconds: float | None, batch_rows: int, max_batches: int
    ) -> int:
        if seconds is None:
            return 0
        removed, after = 0, None
        for _ in range(max_batches):
            # Beginning where the last batch ended: what must stay is not looked at again.
            values = {"dataset": dataset, "seconds": seconds, "after": after, "batch": batch_rows}
            with self._engine.begin() as connection:
                batch = connection.execute(sa.text(statement), values).one()
            removed, after = removed + batch.removed, batch.last
            if batch.removed < batch_rows:
                break
        return removed
