"""Counts of stages: what the gate, the checks, ``forge status`` and the report read."""

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from resources.interaction import ErrorClass, Status
from resources.stage_counts import StageCounts
from resources.store_base import IN_SCOPE, StoreBase, restriction, scope_values
from resources.store_types import Example, FailureClass, ModelCounts, StageScope, StepCounts

EXCERPT_CHARACTERS = 300

# A stage's runs are those that own one of its current results. Runs that overlap in time are one
# stretch of work; the speed is that of the stretch that made the most. A run on another partition,
# from before the stages were cut anew, counts with all that it made.
_STAGES = """
WITH v AS MATERIALIZED (
    SELECT key AS step, value AS version FROM json_each_text(CAST(:versions AS json))
)
SELECT st.partition, st.ordinal_from AS first, st.ordinal_to AS end, sub.subjects, t.*, w.*
FROM forge.stages st
CROSS JOIN LATERAL (
    SELECT count(*) AS subjects FROM forge.subjects s
    WHERE s.dataset = st.dataset AND s.ordinal >= st.ordinal_from AND s.ordinal < st.ordinal_to
) sub
CROSS JOIN LATERAL (
    SELECT coalesce(sum(x.n) FILTER (WHERE x.current AND x.status = 'pending'), 0) AS pending,
           coalesce(sum(x.n) FILTER (WHERE x.current AND x.status = 'running'), 0) AS running,
           coalesce(sum(x.n) FILTER (WHERE x.current AND x.status = 'completed'), 0) AS completed,
           coalesce(sum(x.n) FILTER (WHERE x.current AND x.status = 'rejected'), 0) AS rejected,
           coalesce(sum(x.n) FILTER (WHERE x.current AND x.status = 'failed'), 0) AS failed,
           coalesce(sum(x.n) FILTER (WHERE x.current AND x.status = 'skipped'), 0) AS skipped,
           coalesce(sum(x.n) FILTER (WHERE NOT x.current), 0) AS stale
    FROM (
        SELECT y.status, y.n, v.step IS NOT NULL AND y.same_text AS current
        FROM (
            SELECT i.step, i.version, i.status, i.content_hash = s.content_hash AS same_text,
                   count(*) AS n
            FROM forge.interactions i
            JOIN forge.subjects s ON s.id = i.subject_id AND s.dataset = st.dataset
                AND s.ordinal >= st.ordinal_from AND s.ordinal < st.ordinal_to
            WHERE i.dataset = st.dataset AND i.workflow = :workflow AND i.superseded_at IS NULL
              AND i.ordinal >= st.ordinal_from AND i.ordinal < st.ordinal_to
            GROUP BY i.step, i.version, i.status, same_text
        ) y
        LEFT JOIN v ON v.step = y.step AND v.version = y.version
    ) x
) t
CROSS JOIN LATERAL (
    WITH made AS (
        SELECT i.run_id, count(*) AS results
        FROM forge.interactions i
        JOIN forge.subjects s ON s.id = i.subject_id AND s.content_hash = i.content_hash
        JOIN v ON v.step = i.step AND v.version = i.version
        WHERE i.dataset = st.dataset AND i.workflow = :workflow AND i.superseded_at IS NULL
          AND i.ordinal >= st.ordinal_from AND i.ordinal < st.ordinal_to
          AND i.status IN ('completed', 'rejected', 'failed')
        GROUP BY i.run_id
    ), r AS (
        SELECT r.run_id, r.first_claim, r.last_commit,
               tstzrange(r.first_claim, r.last_commit, '[]') AS span,
               CASE WHEN r.partition = st.partition THEN made.results ELSE (
                   SELECT count(*) FROM forge.interactions i
                   WHERE i.run_id = r.run_id AND i.superseded_at IS NULL
                     AND i.status IN ('completed', 'rejected', 'failed')
               ) END AS results
        FROM forge.runs r JOIN made ON made.run_id = r.run_id
        WHERE r.dataset = st.dataset AND r.workflow = :workflow AND r.last_commit >= r.first_claim
    ), stretch AS (
        SELECT extract(epoch FROM upper(x.span) - lower(x.span)) AS seconds, lower(x.span) AS began,
               (SELECT sum(r.results) FROM r WHERE r.span <@ x.span) AS results
        FROM (SELECT unnest(range_agg(r.span)) AS span FROM r) x
        ORDER BY results DESC, began DESC LIMIT 1
    )
    SELECT min(r.first_claim) AS first_claim, max(r.last_commit) AS last_commit,
           coalesce((SELECT seconds FROM stretch), 0) AS working_seconds,
           coalesce((SELECT results FROM stretch), 0) AS worked,
           coalesce(sum((SELECT count(*) FROM forge.model_loads l WHERE l.run_id = r.run_id)), 0)
               AS model_loads
    FROM r
) w
WHERE st.dataset = :dataset {restriction} ORDER BY st.position"""

# Only for stages in which some, not all, interactions have ended.
_FINISHED = """
SELECT st.partition, count(*) AS subjects
FROM forge.stages st
CROSS JOIN LATERAL (
    SELECT i.ordinal FROM forge.interactions i
    JOIN forge.subjects s ON s.id = i.subject_id AND s.content_hash = i.content_hash
    JOIN json_each_text(CAST(:versions AS json)) AS v ON v.key = i.step AND v.value = i.version
    WHERE i.dataset = st.dataset AND i.workflow = :workflow AND i.superseded_at IS NULL
      AND i.ordinal >= st.ordinal_from AND i.ordinal < st.ordinal_to
      AND i.status NOT IN ('pending', 'running')
    GROUP BY i.ordinal HAVING count(*) = :steps
) ended
WHERE st.dataset = :dataset AND st.partition = ANY(CAST(:partitions AS text[]))
GROUP BY st.partition"""

_TALLY = f"""
SELECT {{columns}},
       count(*) FILTER (WHERE i.status = 'pending') AS pending,
       count(*) FILTER (WHERE i.status = 'running') AS running,
       count(*) FILTER (WHERE i.status = 'completed') AS completed,
       count(*) FILTER (WHERE i.status = 'rejected') AS rejected,
       count(*) FILTER (WHERE i.status = 'failed') AS failed,
       count(*) FILTER (WHERE i.status = 'skipped') AS skipped,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY i.seconds)
           FILTER (WHERE i.finished_at IS NOT NULL) AS p50_seconds,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY i.seconds)
           FILTER (WHERE i.finished_at IS NOT NULL) AS p95_seconds,
       max(i.seconds) FILTER (WHERE i.finished_at IS NOT NULL) AS max_seconds,
       sum(i.prompt_tokens) AS prompt_tokens, sum(i.output_tokens) AS output_tokens
FROM forge.interactions i WHERE {IN_SCOPE}
GROUP BY {{columns}} ORDER BY min(i.id)"""

_ENDED = f"""
SELECT i.step, count(*) AS ended
FROM forge.interactions i
JOIN forge.subjects s ON s.id = i.subject_id AND s.content_hash = i.content_hash
JOIN json_each_text(CAST(:versions AS json)) AS v ON v.key = i.step AND v.value = i.version
WHERE {IN_SCOPE} AND i.status NOT IN ('pending', 'running')
GROUP BY i.step"""

_EXAMPLES = f"""
SELECT i.id AS interaction_id, s.key AS subject_key, i.step, i.error_class,
       coalesce(i.error_message, i.skip_reason, '') AS reason, i.output
FROM forge.interactions i JOIN forge.subjects s ON s.id = i.subject_id
WHERE {IN_SCOPE} AND i.status = :status {{restriction}}
ORDER BY i.attempts DESC, i.ordinal, i.id LIMIT :limit"""

_FAILURES = f"""
SELECT DISTINCT ON (x.total, x.status, x.error_class) x.*
FROM (
    SELECT i.error_class, i.status, coalesce(i.error_message, '') AS message,
           s.key AS subject_key, i.step, i.ordinal, i.id,
           count(*) OVER (PARTITION BY i.status, i.error_class) AS total
    FROM forge.interactions i JOIN forge.subjects s ON s.id = i.subject_id
    WHERE {IN_SCOPE} AND i.status IN ('rejected', 'failed')
) x
ORDER BY x.total DESC, x.status, x.error_class, x.ordinal, x.id"""

_RESULTS = f"""
SELECT s.key, s.ordinal, s.fields, i.id, i.step, i.status, i.output, i.parsed, i.error_class,
       coalesce(i.error_message, i.skip_reason) AS reason
FROM forge.interactions i JOIN forge.subjects s ON s.id = i.subject_id
WHERE {IN_SCOPE} ORDER BY i.ordinal, i.id"""


class StageReads(StoreBase):
    def stage_counts(
        self,
        dataset: str,
        workflow: str,
        step_versions: Mapping[str, str],
        partitions: Collection[str] | None = None,
    ) -> list[StageCounts]:
        """The dataset's stages in order, all or only those named.

        Only live rows of the given versions and of their subject's content hash count; the other
        live rows are ``stale``. ``missing`` is subjects x steps less the rows that count.
        """
        values = {
            "dataset": dataset,
            "workflow": workflow,
            "steps": len(step_versions),
            "versions": json.dumps(dict(step_versions)),
        }
        only = ""
        if partitions is not None:
            only = "AND st.partition = ANY(CAST(:partitions AS text[]))"
            values["partitions"] = list(partitions)
        with self._engine.connect() as connection:
            query = sa.text(_STAGES.format(restriction=only))
            rows = connection.execute(query, values).mappings()
            stages = [_stage(dict(row), len(step_versions)) for row in rows]
            partly = [stage.partition for stage in stages if 0 < stage.ended < _expected(stage)]
            finished: dict[str, int] = {}
            if partly:
                found = connection.execute(sa.text(_FINISHED), {**values, "partitions": partly})
                finished = {row.partition: row.subjects for row in found}
        return [
            replace(
                stage,
                finished_subjects=stage.subjects
                if stage.ended == _expected(stage)
                else finished.get(stage.partition, 0),
            )
            for stage in stages
        ]

    def step_counts(self, scope: StageScope) -> list[StepCounts]:
        """The stage's live rows by step and model, in the order of the plan."""
        return [StepCounts(**row) for row in self._tally(scope, "i.step, i.model")]

    def model_counts(self, scope: StageScope) -> list[ModelCounts]:
        """The stage's live rows by model."""
        return [ModelCounts(**row) for row in self._tally(scope, "i.model")]

    def ended_by_step(self, scope: StageScope, versions: Mapping[str, str]) -> dict[str, int]:
        """Interactions of the given versions and of their subject's content hash that have ended."""
        values = {**scope_values(scope), "versions": json.dumps(dict(versions))}
        with self._engine.connect() as connection:
            rows = connection.execute(sa.text(_ENDED), values)
            return {row.step: row.ended for row in rows}

    def worst_examples(
        self, scope: StageScope, *, status: Status, step: str | None = None, limit: int = 3
    ) -> list[Example]:
        """Interactions that ended so, most attempts first; the output is cut, the reason is not."""
        only, extra = restriction(None if step is None else [step], None)
        values = {**scope_values(scope), **extra, "status": status, "limit": limit}
        query = sa.text(_EXAMPLES.format(restriction=only))
        with self._engine.connect() as connection:
            rows = connection.execute(query, values).all()
        return [
            Example(
                interaction_id=row.interaction_id,
                subject_key=row.subject_key,
                step=row.step,
                error_class=ErrorClass(row.error_class) if row.error_class else None,
                reason=row.reason,
                output_excerpt=_excerpt(row.output),
            )
            for row in rows
        ]

    def failures_by_class(self, scope: StageScope) -> list[FailureClass]:
        """Rejected and failed interactions by status and class, most frequent first."""
        with self._engine.connect() as connection:
            rows = connection.execute(sa.text(_FAILURES), scope_values(scope)).all()
        return [
            FailureClass(
                error_class=ErrorClass(row.error_class),
                status=Status(row.status),
                count=row.total,
                message=row.message,
                subject_key=row.subject_key,
                step=row.step,
            )
            for row in rows
        ]

    def result_rows(self, scope: StageScope) -> list[dict[str, Any]]:
        """One row a subject: key, ordinal, fields, and steps: {name: {interaction_id, status,
        output, parsed, error_class, reason}}."""
        query = sa.text(_RESULTS).columns(fields=JSONB, parsed=JSONB)
        subjects: dict[str, dict[str, Any]] = {}
        with self._engine.connect() as connection:
            for row in connection.execute(query, scope_values(scope)):
                start = {"key": row.key, "ordinal": row.ordinal, "fields": row.fields, "steps": {}}
                subjects.setdefault(row.key, start)["steps"][row.step] = {
                    "interaction_id": row.id,
                    "status": row.status,
                    "output": row.output,
                    "parsed": row.parsed,
                    "error_class": row.error_class,
                    "reason": row.reason,
                }
        return list(subjects.values())

    def _tally(self, scope: StageScope, columns: str) -> list[dict[str, Any]]:
        query = sa.text(_TALLY.format(columns=columns))
        with self._engine.connect() as connection:
            rows = connection.execute(query, scope_values(scope)).mappings()
            return [dict(row) for row in rows]


_STATUSES = ("pending", "running", "completed", "rejected", "failed", "skipped")


def _stage(row: Mapping[str, Any], steps: int) -> StageCounts:
    """Without the finished subjects, which not every stage has to count."""
    current = {name: int(row[name]) for name in _STATUSES}
    return StageCounts(
        **current,
        partition=row["partition"],
        first=row["first"],
        end=row["end"],
        subjects=row["subjects"],
        steps=steps,
        missing=row["subjects"] * steps - sum(current.values()),
        stale=int(row["stale"]),
        working_seconds=float(row["working_seconds"]),
        worked=int(row["worked"]),
        first_claim=row["first_claim"],
        last_commit=row["last_commit"],
        model_loads=int(row["model_loads"]),
    )


def _expected(stage: StageCounts) -> int:
    return stage.subjects * stage.steps


def _excerpt(output: str | None) -> str | None:
    if output is None or len(output) <= EXCERPT_CHARACTERS:
        return output
    return output[:EXCERPT_CHARACTERS] + " ..."
