"""What the plots of a stage show, added up by the database: a few hundred rows, however much was done.

Only live rows of the stage count, as in the tallies of the report. Times are seconds of *work*: the
spans in which runs worked, joined where they overlap, one after another. A night in between is none.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa

from resources.store_base import IN_SCOPE, StoreBase, scope_values
from resources.store_types import StageScope

LATENCY_BINS = 24
"""To a decade: a bin ends 10 % above its beginning."""


@dataclass(frozen=True, slots=True)
class WorkSpan:
    """A stretch of time; ``before``: seconds of all the stretches before it."""

    start: datetime
    end: datetime
    before: float

    @property
    def seconds(self) -> float:
        return (self.end - self.start).total_seconds()


@dataclass(frozen=True, slots=True)
class LatencyBin:
    """Ended interactions of a step that took from ``10 ** (place / LATENCY_BINS)`` seconds on."""

    step: str
    model: str
    place: int
    interactions: int


@dataclass(frozen=True, slots=True)
class BatchBin:
    """Interactions of a model whose last answer came in a batch of this size."""

    model: str
    size: int
    interactions: int


@dataclass(frozen=True, slots=True)
class MemoryPoint:
    """The most that was in use during a bucket, in bytes; ``seconds`` of work to its middle.

    ``device``: a GPU's index and name, None for the host.
    """

    device: str | None
    seconds: float
    used: int
    total: int


# Runs that overlap, and workers of one run, are one span.
_SPANS = """
SELECT lower(x.span) AS start, upper(x.span) AS end FROM (
    SELECT unnest(range_agg(tstzrange(r.first_claim, r.last_commit, '[]'))) AS span
    FROM forge.runs r
    WHERE r.dataset = :dataset AND r.workflow = :workflow AND r.last_commit >= r.first_claim
      AND r.run_id IN (
          SELECT t.run_id FROM forge.interaction_tallies t
          WHERE t.dataset = :dataset AND t.workflow = :workflow AND t.stage = :first
            AND t.run_id IS NOT NULL
          GROUP BY t.run_id HAVING sum(t.n) > 0)
) x ORDER BY 1"""

_SAMPLED = """
SELECT lower(x.span) AS start, upper(x.span) AS end FROM (
    SELECT unnest(range_agg(tstzrange(r.start, r.end, '[]'))) AS span
    FROM (
        SELECT min(s.at) AS start, max(s.at) AS end FROM forge.resource_samples s
        WHERE s.run_id = ANY(CAST(:run_ids AS text[])) GROUP BY s.run_id
    ) r
) x ORDER BY 1"""

_IN_SPANS = """
json_to_recordset(CAST(:spans AS json)) AS w(
    start timestamptz, "end" timestamptz, before double precision)"""

_INTERACTION_ENDS = f"""
SELECT i.finished_at AS at FROM forge.interactions i
WHERE {IN_SCOPE} AND i.status IN ('completed', 'rejected', 'failed')"""

_SUBJECT_ENDS = f"""
SELECT max(i.finished_at) FILTER (WHERE i.status <> 'skipped') AS at
FROM forge.interactions i WHERE {IN_SCOPE}
GROUP BY i.ordinal HAVING bool_and(i.status NOT IN ('pending', 'running'))"""

_FINISHED = """
SELECT floor((w.before + date_part('epoch', e.at - w.start)) / :width)::int AS bucket,
       count(*) AS finished
FROM ({ends}) e JOIN {spans} ON e.at BETWEEN w.start AND w.end
GROUP BY 1 ORDER BY 1"""

_LATENCIES = f"""
SELECT i.step, i.model, floor(:bins * log(greatest(i.seconds, 0.001)))::int AS place,
       count(*) AS interactions
FROM forge.interactions i
WHERE {IN_SCOPE} AND i.finished_at IS NOT NULL AND i.seconds IS NOT NULL
  AND i.provenance ->> 'engine' IS NOT NULL
GROUP BY 1, 2, 3 ORDER BY min(i.id)"""

_BATCHES = f"""
SELECT i.model, (i.provenance ->> 'batch_size')::int AS size, count(*) AS interactions
FROM forge.interactions i
WHERE {IN_SCOPE} AND i.finished_at IS NOT NULL AND i.provenance ->> 'batch_size' IS NOT NULL
GROUP BY 1, 2 ORDER BY 1, 2"""

# The host once a sample, and every GPU of it.
_MEMORY = """
WITH bucketed AS MATERIALIZED (
    SELECT floor((w.before + date_part('epoch', s.at - w.start)) / :width) AS bucket,
           s.memory_total, s.memory_available, s.gpus
    FROM forge.resource_samples s JOIN {spans} ON s.at BETWEEN w.start AND w.end
    WHERE s.run_id = ANY(CAST(:run_ids AS text[]))
)
SELECT NULL AS device, b.bucket, max(b.memory_total - b.memory_available) AS used,
       max(b.memory_total) AS total
FROM bucketed b GROUP BY 1, 2
UNION ALL
SELECT (g ->> 'index') || ' ' || (g ->> 'name'), b.bucket, max((g ->> 'memory_used')::bigint),
       max((g ->> 'memory_total')::bigint)
FROM bucketed b CROSS JOIN jsonb_array_elements(b.gpus) g GROUP BY 1, 2
ORDER BY 1 NULLS FIRST, 2"""


class PictureReads(StoreBase):
    def working_spans(self, scope: StageScope) -> list[WorkSpan]:
        """When runs worked whose results stand, first claim to last commit."""
        return self._spans(_SPANS, scope_values(scope))

    def sampled_spans(self, run_ids: Collection[str]) -> list[WorkSpan]:
        """When the machine was watched."""
        return self._spans(_SAMPLED, {"run_ids": list(run_ids)})

    def finished(
        self,
        scope: StageScope,
        spans: Sequence[WorkSpan],
        width: float,
        unit: Literal["interactions", "subjects"] = "interactions",
    ) -> dict[int, int]:
        """Bucket of ``width`` seconds of work -> what ended in it; buckets without any are absent.

        A subject ends with the last of its interactions that a model was asked for.
        """
        ends = _SUBJECT_ENDS if unit == "subjects" else _INTERACTION_ENDS
        query = _FINISHED.format(ends=ends, spans=_IN_SPANS)
        values = {**scope_values(scope), "spans": _as_json(spans), "width": width}
        rows = self._rows(query, values)
        return {row["bucket"]: row["finished"] for row in rows}

    def latencies(self, scope: StageScope) -> list[LatencyBin]:
        """Seconds that an interaction took, all its attempts together, where a model was asked for it."""
        values = {**scope_values(scope), "bins": LATENCY_BINS}
        return [LatencyBin(**row) for row in self._rows(_LATENCIES, values)]

    def batch_sizes(self, scope: StageScope) -> list[BatchBin]:
        return [BatchBin(**row) for row in self._rows(_BATCHES, scope_values(scope))]

    def memory(
        self, run_ids: Collection[str], spans: Sequence[WorkSpan], width: float
    ) -> list[MemoryPoint]:
        """The host's and every GPU's memory, the most of each bucket of ``width`` seconds."""
        values = {"run_ids": list(run_ids), "spans": _as_json(spans), "width": width}
        return [
            MemoryPoint(row["device"], (row["bucket"] + 0.5) * width, row["used"], row["total"])
            for row in self._rows(_MEMORY.format(spans=_IN_SPANS), values)
        ]

    def _spans(self, query: str, values: dict[str, Any]) -> list[WorkSpan]:
        spans: list[WorkSpan] = []
        for row in self._rows(query, values):
            before = spans[-1].before + spans[-1].seconds if spans else 0.0
            spans.append(WorkSpan(row["start"], row["end"], before))
        return spans

    def _rows(self, query: str, values: dict[str, Any]) -> list[dict[str, Any]]:
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(sa.text(query), values).mappings()]


def _as_json(spans: Sequence[WorkSpan]) -> str:
    return json.dumps(
        [
            {"start": span.start.isoformat(), "end": span.end.isoformat(), "before": span.before}
            for span in spans
        ]
    )
