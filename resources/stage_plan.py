"""Planning: a stage has one live row for each of its subjects x the steps of the workflow now."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from resources import store_schema as schema
from resources.claim_store import RECLAIM
from resources.interaction import Status
from resources.store_advance import release_stuck
from resources.store_base import (
    IN_SCOPE,
    StoreBase,
    StoreLock,
    bulk_json,
    lock_subjects,
    lock_transaction,
    refresh_statistics,
    restriction,
    scope_values,
)
from resources.store_supersede import supersede_rows
from resources.store_types import Advance, PlannedStep, PlanReport, StageScope
from resources.tally_store import PLANNED_OTHERWISE, fold_tallies, keep_writers_out, rebuild_tallies

_PLANNED = """json_to_recordset(CAST(:planned AS json))
    AS p(name text, version text, model text, root boolean)"""

_SUBJECTS = """
SELECT count(*) FROM forge.subjects
WHERE dataset = :dataset AND ordinal >= :first AND ordinal < :end"""

_LOCK_SUBJECTS = """
SELECT id FROM forge.subjects
WHERE dataset = :dataset AND ordinal >= :first AND ordinal < :end
ORDER BY id FOR NO KEY UPDATE"""

_LIVE = f"""
SELECT count(*) FILTER (WHERE x.current) AS current,
       array_agg(DISTINCT x.subject_id) FILTER (WHERE NOT x.current) AS outdated
FROM (
    SELECT i.subject_id, p.name IS NOT NULL AND NOT i.old_text AS current
    FROM forge.interactions i
    LEFT JOIN {_PLANNED} ON p.name = i.step AND p.version = i.version
    WHERE {IN_SCOPE}
) x"""

_OUTDATED = f"""
    i.workflow = :workflow AND (i.old_text OR NOT EXISTS (
        SELECT FROM {_PLANNED} WHERE p.name = i.step AND p.version = i.version))"""

_TAKE_BACK = RECLAIM.format(
    where=f"{IN_SCOPE} AND i.status = 'running' AND i.subject_id = ANY(CAST(:subjects AS bigint[]))",
    wait="",
)
_TAKEN_BACK = {"reason": "the stage was planned anew", "losses": 0}

_CREATE = """
INSERT INTO forge.interactions
    (subject_id, dataset, workflow, step, model, version, content_hash, ordinal, ready)
SELECT s.id, s.dataset, :workflow, p.name, p.model, p.version, s.content_hash, s.ordinal, p.root
FROM forge.subjects s
CROSS JOIN ROWS FROM (json_to_recordset(CAST(:planned AS json))
    AS (name text, version text, model text, root boolean)) WITH ORDINALITY
    AS p(name, version, model, root, position)
WHERE s.dataset = :dataset AND s.ordinal >= :first AND s.ordinal < :end
ORDER BY s.ordinal, p.position
ON CONFLICT (subject_id, workflow, step) WHERE superseded_at IS NULL DO NOTHING"""

_ENDED = f"""
SELECT i.subject_id, i.step, i.renewals FROM forge.interactions i
WHERE {IN_SCOPE} AND i.status = :status"""

_RENEW = f"""
INSERT INTO forge.interactions
    (subject_id, dataset, workflow, step, model, version, content_hash, ordinal, ready, renewals)
SELECT s.id, s.dataset, :workflow, p.name, p.model, p.version, s.content_hash, s.ordinal, t.ready,
       t.renewals
FROM json_to_recordset(CAST(:pairs AS json))
    AS t(subject_id bigint, step text, ready boolean, renewals integer)
JOIN forge.subjects s ON s.id = t.subject_id
JOIN {_PLANNED} ON p.name = t.step
ORDER BY s.ordinal
ON CONFLICT (subject_id, workflow, step) WHERE superseded_at IS NULL DO NOTHING"""

_CHOSEN = """
    i.workflow = :workflow AND (i.subject_id, i.step) IN (
        SELECT t.subject_id, t.step
        FROM json_to_recordset(CAST(:pairs AS json)) AS t(subject_id bigint, step text))"""

_RETRIED = (Status.COMPLETED, Status.REJECTED, Status.FAILED)


class StagePlanner(StoreBase):
    def sync_stages(self, dataset: str, stages: Sequence[tuple[str, int, int]]) -> None:
        """Make a dataset's (partition, first, end) known to SQL and the view; the order is kept."""
        table = schema.stages.c
        known = (
            sa.select(table.partition, table.ordinal_from, table.ordinal_to)
            .where(table.dataset == dataset)
            .order_by(table.position)
        )
        with self._engine.begin() as connection:
            if [tuple(row) for row in connection.execute(known)] == list(stages):
                return
            lock_transaction(connection, StoreLock.DATASET, dataset)
            keep_writers_out(connection)
            connection.execute(sa.delete(schema.stages).where(table.dataset == dataset))
            rows = [
                {
                    "dataset": dataset,
                    "partition": partition,
                    "ordinal_from": first,
                    "ordinal_to": end,
                    "position": position,
                }
                for position, (partition, first, end) in enumerate(stages)
            ]
            if rows:
                connection.execute(sa.insert(schema.stages), rows)
                refresh_statistics(connection, "forge.stages", len(rows))
            rebuild_tallies(connection, dataset)

    def plan_stage(
        self, scope: StageScope, steps: Sequence[PlannedStep], advance: Advance
    ) -> PlanReport:
        """Create missing rows, retire those of another version, content hash or a removed step.

        ``advance`` moves on new rows whose ancestors stay: no result will come in that does.
        """
        values = {**scope_values(scope), "planned": _json(steps)}
        with self._engine.begin() as connection:
            if _is_planned(connection, values, len(steps)):
                return PlanReport()
        with self._engine.begin() as connection:
            # Shared with ingest: no text changes between reading its hash and creating its rows.
            lock_transaction(connection, StoreLock.DATASET, scope.dataset)
            # All at once and in order, also those that only move on below.
            connection.execute(sa.text(_LOCK_SUBJECTS), values)
            outdated = connection.execute(sa.text(_LIVE), values).one().outdated or []
            superseded = supersede_rows(
                connection, outdated, _OUTDATED, values, "the workflow or the subject changed"
            )
            # Who works by the old plan would also move on what comes after by it.
            connection.execute(sa.text(_TAKE_BACK), {**values, "subjects": outdated, **_TAKEN_BACK})
            created = connection.execute(sa.text(_CREATE), values).rowcount
            if created:
                refresh_statistics(connection, "forge.interactions", created)
            moved = release_stuck(connection, scope, advance)
            fold_tallies(connection, scope.dataset)
        return PlanReport(created, superseded, moved.newly_ready, moved.skipped)

    def planned_otherwise(self, scope: StageScope, versions: Mapping[str, str]) -> bool:
        """Whether a run with other versions of the steps has planned the stage since."""
        values = {**scope_values(scope), "versions": json.dumps(dict(versions))}
        with self._engine.connect() as connection:
            query = sa.text(f"SELECT {PLANNED_OTHERWISE}")
            return bool(connection.execute(query, values).scalar_one())

    def retry(
        self,
        scope: StageScope,
        *,
        status: Status,
        step: str | None,
        descendants: Mapping[str, Collection[str]],
        planned: Sequence[PlannedStep],
    ) -> int:
        """Do again what ended as ``status``: retire those rows and their descendants', plan anew.

        A renewed row is ready unless an ancestor is renewed with it. How many are pending again,
        descendants included.
        """
        if status not in _RETRIED:
            raise ValueError(f"only what a model answered can be done again, not {status}")
        names = {entry.name for entry in planned}
        limit, extra = restriction(names if step is None else names & {step}, None)
        values = {**scope_values(scope), **extra, "status": status, "planned": _json(planned)}
        with self._engine.begin() as connection:
            lock_transaction(connection, StoreLock.DATASET, scope.dataset)
            query = sa.text(_ENDED + limit)
            lock_subjects(connection, {row.subject_id for row in connection.execute(query, values)})
            chosen: dict[int, dict[str, int]] = {}
            for row in connection.execute(query, values):
                # Another answer is wanted of what was rejected; a fault had nothing to do with it.
                renewals = row.renewals + (status is Status.REJECTED)
                chosen.setdefault(row.subject_id, {})[row.step] = renewals
            if not chosen:
                return 0
            values["pairs"] = bulk_json(_renewals(chosen, descendants))
            supersede_rows(connection, chosen, _CHOSEN, values, f"retry of {status}")
            return connection.execute(sa.text(_RENEW), values).rowcount


def _renewals(
    chosen: Mapping[int, Mapping[str, int]], descendants: Mapping[str, Collection[str]]
) -> list[dict[str, Any]]:
    """The rows to insert; ``chosen`` has the renewals of each. A descendant gets another prompt."""
    rows = []
    for subject_id, steps in chosen.items():
        below = {name for step in steps for name in descendants.get(step, ())}
        for name in sorted(steps.keys() | below):
            row = {"subject_id": subject_id, "step": name, "ready": name not in below}
            rows.append(row | {"renewals": steps.get(name, 0)})
    return rows


def _is_planned(connection: sa.Connection, values: dict[str, Any], steps: int) -> bool:
    subjects = connection.execute(sa.text(_SUBJECTS), values).scalar_one()
    live = connection.execute(sa.text(_LIVE), values).one()
    return bool(live.current == subjects * steps and not live.outdated)


def _json(steps: Sequence[PlannedStep]) -> str:
    return bulk_json(
        [
            {"name": step.name, "version": step.version, "model": step.model, "root": step.root}
            for step in steps
        ]
    )
