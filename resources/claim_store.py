"""Leases: who works on which interaction, until when, under which fencing token."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from resources.interaction import SUSPECT_LOSSES, Claim, StepState
from resources.store_advance import step_state
from resources.store_base import IN_SCOPE, StoreBase, restriction, scope_values
from resources.store_types import OpenWork, SlowAnswers, StageScope
from resources.tally_store import PLANNED_OTHERWISE
from resources.worker_ids import run_of, sql_run_of

READY = """i.status = 'pending' AND i.ready
    AND (i.retry_at IS NULL OR i.retry_at <= clock_timestamp())"""

# Which rows are claimed, and in what order. Of suspects the least suspected first: what ends a worker
# again waits for all others.
UNSUSPECTED = {"losses": f"i.losses < {SUSPECT_LOSSES}", "first": ""}
SUSPECTS = {"losses": f"i.losses >= {SUSPECT_LOSSES}", "first": "i.losses,"}
ANY = {"losses": "true", "first": ""}

# Leases are by the database's clock: workers' clocks differ and jump.
CLAIM = f"""
WITH picked AS (
    SELECT i.id FROM forge.interactions i
    WHERE {IN_SCOPE} AND i.model = :model AND {READY} AND {{losses}} {{restriction}}
      AND (CAST(:versions AS jsonb) IS NULL OR NOT {PLANNED_OTHERWISE})
    ORDER BY {{first}} i.ordinal, i.id LIMIT :limit FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE forge.interactions i
    SET status = 'running', run_id = :run_id, token = nextval('forge.claim_tokens'),
        claims = i.claims + 1, claimed_at = clock_timestamp(), retry_at = NULL,
        lease_until = clock_timestamp() + CAST(:lease AS double precision) * interval '1 second'
    WHERE i.id = ANY(ARRAY(SELECT id FROM picked))
    RETURNING i.id, i.token, i.step, i.model, i.subject_id, i.ordinal, i.attempts,
              i.renewals, i.losses
), noted AS (
    INSERT INTO forge.interaction_events (interaction_id, kind, run_id, token, attempt)
    SELECT id, 'claimed', :run_id, token, attempts FROM claimed
), begun AS (
    UPDATE forge.runs SET first_claim = clock_timestamp()
    WHERE run_id = :run_id AND workflow = :workflow AND partition = :partition
      AND first_claim IS NULL AND EXISTS (SELECT FROM claimed)
)
SELECT c.*, s.key, s.fields FROM claimed c JOIN forge.subjects s ON s.id = c.subject_id
ORDER BY c.ordinal, c.id"""

_ANCESTORS = """
SELECT subject_id, step, status, ready, output, parsed, skip_kind FROM forge.interactions
WHERE subject_id = ANY(CAST(:subjects AS bigint[])) AND workflow = :workflow
  AND step = ANY(CAST(:steps AS text[])) AND superseded_at IS NULL"""

_BY_MODEL = f"""
SELECT i.model, count(*) AS found FROM forge.interactions i
WHERE {IN_SCOPE} AND {{where}} {{restriction}} GROUP BY i.model ORDER BY i.model"""

# A row that is being committed at this moment needs no longer lease.
_EXTEND = """
WITH held AS (
    SELECT id FROM forge.interactions
    WHERE id = ANY(CAST(:ids AS bigint[])) AND run_id = :run_id AND status = 'running'
    FOR UPDATE SKIP LOCKED
)
UPDATE forge.interactions i
SET lease_until = clock_timestamp() + CAST(:lease AS double precision) * interval '1 second'
FROM held WHERE i.id = held.id"""

RECLAIM = """
WITH lost AS (
    SELECT i.id, i.token FROM forge.interactions i WHERE {where} ORDER BY i.id FOR UPDATE {wait}
), back AS (
    UPDATE forge.interactions i
    SET status = 'pending', token = NULL, lease_until = NULL, losses = i.losses + :losses
    FROM lost WHERE i.id = lost.id
    RETURNING i.id, i.run_id, i.attempts, lost.token
)
INSERT INTO forge.interaction_events (interaction_id, kind, run_id, token, attempt, detail)
SELECT id, 'reclaimed', run_id, token, attempts,
       jsonb_build_object('reason', CAST(:reason AS text))
FROM back ORDER BY id"""

_EXPIRED = f"{IN_SCOPE} AND i.status = 'running' AND i.lease_until < clock_timestamp()"

# Claimed by a thread that was not waited for when its run ended.
_LEFT_BEHIND = f"""{IN_SCOPE} AND i.status = 'running' AND EXISTS (
    SELECT FROM forge.runs r
    WHERE r.run_id = i.run_id AND r.workflow = i.workflow AND r.partition = :partition
      AND r.ended_at IS NOT NULL)"""

_OPEN = f"""
SELECT count(*) FILTER (WHERE x.ready_now) AS ready,
       count(*) FILTER (WHERE x.waits) AS waiting_retry,
       extract(epoch FROM min(x.retry_at) FILTER (WHERE x.waits) - clock_timestamp())
           AS retry_in_seconds,
       count(*) FILTER (WHERE x.here) AS running_here,
       count(*) FILTER (WHERE x.elsewhere) AS running_elsewhere,
       extract(epoch FROM min(x.lease_until) FILTER (WHERE x.elsewhere) - clock_timestamp())
           AS lease_in_seconds,
       count(*) FILTER (WHERE x.status = 'pending' AND NOT x.ready) AS pending_not_ready
FROM (
    SELECT i.status, i.ready, i.retry_at, i.lease_until, {READY} AS ready_now,
           i.status = 'pending' AND i.ready AND i.retry_at > clock_timestamp() AS waits,
           i.status = 'running' AND {sql_run_of("i.run_id")} IS NOT DISTINCT FROM :run_id AS here,
           i.status = 'running' AND {sql_run_of("i.run_id")} IS DISTINCT FROM :run_id AS elsewhere
    FROM forge.interactions i
    WHERE {IN_SCOPE} AND i.status IN ('pending', 'running') {{restriction}}
) x"""

_UNFINISHED = f"""
SELECT i.subject_id FROM forge.interactions i
WHERE {IN_SCOPE} AND i.status IN ('pending', 'running')
GROUP BY i.ordinal, i.subject_id ORDER BY i.ordinal LIMIT :limit"""

_UNFINISHED_STEPS = f"""
SELECT i.step, count(*) AS open FROM forge.interactions i
WHERE {IN_SCOPE} AND i.status IN ('pending', 'running')
  AND i.step = ANY(CAST(:steps AS text[]))
GROUP BY i.step ORDER BY i.step"""


# The latest subjects up to the stage's own: how slow the steps are now.
_SLOW = f"""
SELECT x.step, count(*) AS seen, percentile_cont(0.99) WITHIN GROUP (ORDER BY x.seconds) AS p99
FROM (
    SELECT i.step, extract(epoch FROM i.finished_at - i.claimed_at) AS seconds
    FROM forge.interactions i
    WHERE {IN_SCOPE} AND i.status IN ('completed', 'rejected', 'failed')
    ORDER BY i.ordinal DESC LIMIT :limit
) x
GROUP BY x.step"""
_SLOW_LOOKED_AT = 5000


class ClaimStore(StoreBase):
    def claim(
        self,
        scope: StageScope,
        model: str,
        *,
        run_id: str,
        limit: int,
        lease_seconds: float,
        steps: Collection[str] | None = None,
        subject_ids: Collection[int] | None = None,
        ancestors_of: Mapping[str, Collection[str]],
        suspects: bool | None = False,
        versions: Mapping[str, str] | None = None,
    ) -> list[Claim]:
        """Take up to ``limit`` ready interactions of a model, first subjects first.

        ``suspects``: only those that ``SUSPECT_LOSSES`` workers did not come back from, or only the
        others; None is both. Never waits for another claimer. The run must be registered on the
        stage, or its working time is not known. ``ancestors_of``: for each step the steps whose state
        the claim carries. ``versions``: of the caller's steps; nothing once the stage is planned by
        others, since the caller would answer the wrong prompts. None does not look.
        """
        only, extra = restriction(steps, subject_ids)
        values = {
            **scope_values(scope),
            **extra,
            "partition": scope.partition,
            "model": model,
            "run_id": run_id,
            "limit": limit,
            "lease": lease_seconds,
            "versions": None if versions is None else json.dumps(dict(versions)),
        }
        chosen = ANY if suspects is None else SUSPECTS if suspects else UNSUSPECTED
        query = sa.text(CLAIM.format(restriction=only, **chosen)).columns(fields=JSONB)
        with self._engine.begin() as connection:
            rows = connection.execute(query, values).all()
            known = _ancestor_states(connection, scope.workflow, rows, ancestors_of)
        return [
            Claim(
                interaction_id=row.id,
                token=row.token,
                step=row.step,
                model=row.model,
                subject_key=row.key,
                ordinal=row.ordinal,
                attempt=row.attempts,
                renewals=row.renewals,
                losses=row.losses,
                fields=row.fields,
                ancestors={
                    name: known[row.subject_id, name]
                    for name in ancestors_of.get(row.step, ())
                    if (row.subject_id, name) in known
                },
            )
            for row in rows
        ]

    def ready_models(
        self,
        scope: StageScope,
        steps: Collection[str] | None = None,
        subject_ids: Collection[int] | None = None,
    ) -> dict[str, int]:
        """How many interactions of each model could be claimed now."""
        return self._by_model(READY, scope, steps, subject_ids)

    def open_models(
        self,
        scope: StageScope,
        steps: Collection[str] | None = None,
        subject_ids: Collection[int] | None = None,
    ) -> dict[str, int]:
        """How many interactions of each model have not ended."""
        return self._by_model("i.status IN ('pending', 'running')", scope, steps, subject_ids)

    def _by_model(
        self,
        where: str,
        scope: StageScope,
        steps: Collection[str] | None,
        subject_ids: Collection[int] | None,
    ) -> dict[str, int]:
        only, extra = restriction(steps, subject_ids)
        query = sa.text(_BY_MODEL.format(where=where, restriction=only))
        with self._engine.connect() as connection:
            rows = connection.execute(query, {**scope_values(scope), **extra})
            return {row.model: row.found for row in rows}

    def extend_leases(self, run_id: str, ids: Collection[int], lease_seconds: float) -> int:
        """Prolong what the run still holds, counted from now. How many."""
        if not ids:
            return 0
        values = {"run_id": run_id, "ids": list(ids), "lease": lease_seconds}
        with self._engine.begin() as connection:
            return connection.execute(sa.text(_EXTEND), values).rowcount

    def reclaim_expired(self, scope: StageScope) -> int:
        """Give back the stage's interactions whose lease has ended. How many."""
        return self._reclaim(scope, _EXPIRED, "the lease ended", losses=1)

    def reclaim_left_behind(self, scope: StageScope) -> int:
        """Give back what runs of the stage still hold that have ended. How many."""
        return self._reclaim(scope, _LEFT_BEHIND, "its run has ended", losses=0)

    def _reclaim(self, scope: StageScope, where: str, reason: str, losses: int) -> int:
        statement = sa.text(RECLAIM.format(where=where, wait="SKIP LOCKED"))
        values = {**scope_values(scope), "partition": scope.partition}
        with self._engine.begin() as connection:
            return connection.execute(
                statement, {**values, "reason": reason, "losses": losses}
            ).rowcount

    def hand_back(self, run_id: str) -> int:
        """Give back what a run has claimed and will not answer. How many."""
        return self._reclaim_run(run_id, "the run ended before its answer", losses=0)

    def reclaim_run(self, run_id: str) -> int:
        """Give back everything that a dead run held. How many.

        Waits for a commit that the dead run left in the server, so that nothing stays behind.
        """
        return self._reclaim_run(run_id, "the run died", losses=1)

    def _reclaim_run(self, run_id: str, reason: str, losses: int) -> int:
        where = "i.run_id = :run_id AND i.status = 'running'"
        statement = sa.text(RECLAIM.format(where=where, wait=""))
        values = {"run_id": run_id, "reason": reason, "losses": losses}
        with self._engine.begin() as connection:
            return connection.execute(statement, values).rowcount

    def holds_leases(self, run_id: str) -> bool:
        """Whether a lease of the run, or of one of its workers, has not ended yet."""
        query = sa.text(
            "SELECT EXISTS (SELECT FROM forge.interactions WHERE status = 'running'"
            f" AND {sql_run_of('run_id')} = :run_id AND lease_until > clock_timestamp())"
        )
        with self._engine.connect() as connection:
            return bool(connection.execute(query, {"run_id": run_id}).scalar_one())

    def slow_answers(self, scope: StageScope) -> dict[str, SlowAnswers]:
        """By step, of the latest answers up to the end of the stage."""
        values = {**scope_values(scope), "first": 0, "limit": _SLOW_LOOKED_AT}
        with self._engine.connect() as connection:
            rows = connection.execute(sa.text(_SLOW), values)
            return {row.step: SlowAnswers(row.seen, float(row.p99)) for row in rows}

    def open_work(
        self,
        scope: StageScope,
        steps: Collection[str] | None = None,
        subject_ids: Collection[int] | None = None,
        *,
        run_id: str | None = None,
    ) -> OpenWork:
        """What is not final yet. Here is what the run of ``run_id``, or of that worker, has in work;
        without it everything is elsewhere."""
        only, extra = restriction(steps, subject_ids)
        values = {**scope_values(scope), **extra, "run_id": run_of(run_id) if run_id else None}
        query = sa.text(_OPEN.format(restriction=only)).columns(
            retry_in_seconds=sa.Double, lease_in_seconds=sa.Double
        )
        with self._engine.connect() as connection:
            return OpenWork(**connection.execute(query, values).mappings().one())

    def unfinished_subject_ids(self, scope: StageScope, limit: int) -> list[int]:
        """The stage's first subjects that have an interaction which is not final."""
        with self._engine.connect() as connection:
            values = {**scope_values(scope), "limit": limit}
            return list(connection.execute(sa.text(_UNFINISHED), values).scalars())

    def unfinished_parents(self, scope: StageScope, steps: Collection[str]) -> dict[str, int]:
        """Of the named steps those that have interactions which are not final, and how many."""
        with self._engine.connect() as connection:
            values = {**scope_values(scope), "steps": list(steps)}
            rows = connection.execute(sa.text(_UNFINISHED_STEPS), values)
            return {row.step: row.open for row in rows}


def _ancestor_states(
    connection: sa.Connection,
    workflow: str,
    claimed: Sequence[Any],
    ancestors_of: Mapping[str, Collection[str]],
) -> dict[tuple[int, str], StepState]:
    steps = {name for row in claimed for name in ancestors_of.get(row.step, ())}
    if not steps:
        return {}
    query = sa.text(_ANCESTORS).columns(parsed=JSONB)
    subjects = sorted({row.subject_id for row in claimed})
    values = {"subjects": subjects, "workflow": workflow, "steps": sorted(steps)}
    return {
        (subject_id, step): step_state(*state)
        for subject_id, step, *state in connection.execute(query, values).all()
    }
