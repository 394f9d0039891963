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
from resources.worker_ids import sql_run_of

EXCERPT_CHARACTERS = 300

# What the stages hold is added up from the tallies. A stage's runs are those that own one of its
# current results. Runs that overlap in time are one stretch of work; the speed is that of the
# stretch that made the most. A run on another partition, from before the stages were cut anew,
# counts with all that it made. Ordinals have no gaps: where the rows are as many as they should be,
# so are the subjects, and nothing needs to be counted.
_STAGES = """
WITH v AS (
    SELECT key AS step, value AS version FROM json_each_text(CAST(:versions AS json))
), st AS MATERIALIZED (
    SELECT st.partition, st.ordinal_from AS first, st.ordinal_to AS end, st.position
    FROM forge.stages st WHERE st.dataset = :dataset {restriction}
), tallied AS MATERIALIZED (
    SELECT t.stage, t.status, t.run_id, v.step IS NOT NULL AND NOT t.old_text AS current,
           sum(t.n) AS n
    FROM forge.interaction_tallies t
    LEFT JOIN v ON v.step = t.step AND v.version = t.version
    WHERE t.dataset = :dataset AND t.workflow = :workflow {only_tallies}
    GROUP BY 1, 2, 3, 4
), counted AS MATERIALIZED (
    SELECT x.stage, sum(x.n) FILTER (WHERE x.current) AS current,
           sum(x.n) FILTER (WHERE x.current AND x.status = 'pending') AS pending,
           sum(x.n) FILTER (WHERE x.current AND x.status = 'running') AS running,
           sum(x.n) FILTER (WHERE x.current AND x.status = 'completed') AS completed,
           sum(x.n) FILTER (WHERE x.current AND x.status = 'rejected') AS rejected,
           sum(x.n) FILTER (WHERE x.current AND x.status = 'failed') AS failed,
           sum(x.n) FILTER (WHERE x.current AND x.status = 'skipped') AS skipped,
           sum(x.n) FILTER (WHERE NOT x.current) AS stale
    FROM tallied x GROUP BY x.stage
), made AS MATERIALIZED (
    SELECT x.stage, x.run_id, sum(x.n) AS results FROM tallied x
    WHERE x.current AND x.run_id IS NOT NULL
    GROUP BY x.stage, x.run_id HAVING sum(x.n) > 0
), workers AS (
    SELECT m.stage, {run_of} AS run_id, r.first_claim, r.last_commit,
           CASE WHEN r.partition = st.partition THEN m.results ELSE (
               SELECT sum(t.n) FROM forge.interaction_tallies t WHERE t.run_id = m.run_id
           ) END AS results
    FROM made m
    JOIN st ON st.first = m.stage
    JOIN forge.runs r ON r.run_id = m.run_id
        AND r.dataset = :dataset AND r.workflow = :workflow AND r.last_commit >= r.first_claim
), r AS MATERIALIZED (
    SELECT w.stage, w.run_id, min(w.first_claim) AS first_claim, max(w.last_commit) AS last_commit,
           tstzrange(min(w.first_claim), max(w.last_commit), '[]') AS span, sum(w.results) AS results
    FROM workers w GROUP BY w.stage, w.run_id
), stretches AS (
    SELECT x.stage, x.span, sum(r.results) AS results
    FROM (SELECT r.stage, unnest(range_agg(r.span)) AS span FROM r GROUP BY r.stage) x
    JOIN r ON r.stage = x.stage AND r.span <@ x.span
    GROUP BY x.stage, x.span
), stretch AS MATERIALIZED (
    SELECT DISTINCT ON (x.stage) x.stage, x.results,
           extract(epoch FROM upper(x.span) - lower(x.span)) AS seconds
    FROM stretches x ORDER BY x.stage, x.results DESC, lower(x.span) DESC
), worked AS MATERIALIZED (
    SELECT r.stage, min(r.first_claim) AS first_claim, max(r.last_commit) AS last_commit,
           sum((SELECT count(*) FROM forge.model_loads l WHERE l.run_id = r.run_id)) AS model_loads
    FROM r GROUP BY r.stage
)
SELECT st.partition, st.first, st.end,
       CASE WHEN place.subjects * :steps = coalesce(c.current, 0) THEN place.subjects ELSE (
           SELECT count(*) FROM forge.subjects s
           WHERE s.dataset = :dataset AND s.ordinal >= st.first AND s.ordinal < st.end
       ) END AS subjects,
       coalesce(c.pending, 0) AS pending, coalesce(c.running, 0) AS running,
       coalesce(c.completed, 0) AS completed, coalesce(c.rejected, 0) AS rejected,
       coalesce(c.failed, 0) AS failed, coalesce(c.skipped, 0) AS skipped,
       coalesce(c.stale, 0) AS stale,
       w.first_claim, w.last_commit, coalesce(w.model_loads, 0) AS model_loads,
       coalesce(s.seconds, 0) AS working_seconds, coalesce(s.results, 0) AS worked
FROM st
CROSS JOIN (
    SELECT coalesce(max(s.ordinal) + 1, 0) AS end FROM forge.subjects s WHERE s.dataset = :dataset
) subjects
CROSS JOIN LATERAL (
    SELECT greatest(least(st.end, subjects.end) - st.first, 0) AS subjects
) place
LEFT JOIN counted c ON c.stage = st.first
LEFT JOIN worked w ON w.stage = st.first
LEFT JOIN stretch s ON s.stage = st.first
ORDER BY st.position"""

# Only for stages in which some, not all, interactions have ended: what they hold is read.
_FINISHED = """
SELECT st.partition, count(*) AS subjects
FROM forge.stages st
CROSS JOIN LATERAL (
    SELECT i.ordinal FROM forge.interactions i
    JOIN json_each_text(CAST(:versions AS json)) AS v ON v.key = i.step AND v.value = i.version
    WHERE i.dataset = st.dataset AND i.workflow = :workflow AND i.superseded_at IS NULL
      AND i.ordinal >= st.ordinal_from AND i.ordinal < st.ordinal_to
      AND i.status NOT IN ('pending', 'running') AND NOT i.old_text
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
JOIN json_each_text(CAST(:versions AS json)) AS v ON v.key = i.step AND v.value = i.version
WHERE {IN_SCOPE} AND i.status NOT IN ('pending', 'running') AND NOT i.old_text
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
        only = only_tallies = ""
        if partitions is not None:
            only = "AND st.partition = ANY(CAST(:partitions AS text[]))"
            only_tallies = "AND t.stage = ANY(ARRAY(SELECT st.first FROM st))"
            values["partitions"] = list(partitions)
        with self._engine.connect() as connection:
            query = sa.text(
                _STAGES.format(
                    restriction=only, only_tallies=only_tallies, run_of=sql_run_of("m.run_id")
                )
            )
            rows = connection.execute(query, values).mappings()
            stages = [_stage(dict(row), len(step_versions)) for row in rows]
            finished = _finished(connection, stages, values)
        return [
            replace(stage, finished_subjects=finished[stage.partition])
            if stage.partition in finished
            else stage
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
    """Without the finished subjects of a stage that is partly done: they have to be looked for."""
    current = {name: int(row[name]) for name in _STATUSES}
    ended = sum(current.values()) - current["pending"] - current["running"]
    return StageCounts(
        **current,
        partition=row["partition"],
        first=row["first"],
        end=row["end"],
        subjects=row["subjects"],
        steps=steps,
        missing=row["subjects"] * steps - sum(current.values()),
        stale=int(row["stale"]),
        finished_subjects=row["subjects"] if ended == row["subjects"] * steps else 0,
        working_seconds=float(row["working_seconds"]),
        worked=int(row["worked"]),
        first_claim=row["first_claim"],
        last_commit=row["last_commit"],
        model_loads=int(row["model_loads"]),
    )


def _finished(
    connection: sa.Connection, stages: Collection[StageCounts], values: Mapping[str, Any]
) -> dict[str, int]:
    """How many subjects have all steps ended, of the stages that are partly done."""
    partly = [row.partition for row in stages if 0 < row.ended < _expected(row)]
    if not partly:
        return {}
    rows = connection.execute(sa.text(_FINISHED), {**values, "partitions": partly})
    return {row.partition: row.subjects for row in rows}


def _expected(stage: StageCounts) -> int:
    return stage.subjects * stage.steps


def _excerpt(output: str | None) -> str | None:
    if output is None or len(output) <= EXCERPT_CHARACTERS:
        return output
    return output[:EXCERPT_CHARACTERS] + " ..."
