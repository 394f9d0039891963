"""Results: one transaction writes them, moves the relatives on, and leaves the events."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from resources.interaction import Result, Status, StepState
from resources.store_advance import load_families, move_on
from resources.store_base import StoreBase, bulk_json
from resources.store_types import Advance, CommitReport

_LOCK_SUBJECTS = """
SELECT id FROM forge.subjects WHERE id IN (
    SELECT subject_id FROM forge.interactions WHERE id = ANY(CAST(:ids AS bigint[])))
ORDER BY id FOR NO KEY UPDATE"""

_TARGETS = """
SELECT id, subject_id, dataset, workflow, ordinal, step, status, token, finished_token,
       superseded_at
FROM forge.interactions WHERE id = ANY(CAST(:ids AS bigint[])) ORDER BY id FOR UPDATE"""

# The row sums tokens and seconds over its attempts; each attempt's own are in its event.
_APPLY = """
WITH ended AS (
    UPDATE forge.interactions i
    SET status = r.status, token = NULL, lease_until = NULL, finished_token = r.token,
        attempts = i.attempts + 1, losses = 0,
        retry_at = CASE WHEN r.status = 'pending'
            THEN clock_timestamp() + r.delay * interval '1 second' END,
        finished_at = CASE WHEN r.status <> 'pending' THEN clock_timestamp() END,
        prompt = r.prompt, system = r.system,
        output = CASE WHEN r.status <> 'pending' THEN r.output END,
        parsed = CASE WHEN r.status <> 'pending' THEN r.parsed END,
        error_class = r.error_class, error_message = r.error_message,
        prompt_tokens = i.prompt_tokens + r.prompt_tokens,
        output_tokens = i.output_tokens + r.output_tokens,
        seconds = coalesce(i.seconds, 0)
            + coalesce(r.seconds, extract(epoch FROM clock_timestamp() - i.claimed_at)),
        provenance = r.provenance
    FROM json_to_recordset(CAST(:rows AS json)) AS r(
        id bigint, token bigint, status text, delay double precision, prompt text, system text,
        output text, parsed jsonb, error_class text, error_message text, prompt_tokens integer,
        output_tokens integer, seconds double precision, provenance jsonb)
    WHERE i.id = r.id
    RETURNING i.id, i.run_id, i.attempts, i.status, i.retry_at, i.error_class, i.error_message,
        i.provenance, r.token, r.output, r.prompt_tokens, r.output_tokens,
        coalesce(r.seconds, extract(epoch FROM clock_timestamp() - i.claimed_at)) AS seconds
)
INSERT INTO forge.interaction_events (interaction_id, kind, run_id, token, attempt, detail)
SELECT id, CASE status WHEN 'pending' THEN 'retried' ELSE status END, run_id, token, attempts - 1,
       jsonb_strip_nulls(jsonb_build_object(
           'error_class', error_class, 'error_message', error_message, 'seconds', seconds,
           'prompt_tokens', prompt_tokens, 'output_tokens', output_tokens,
           'output', CASE WHEN status = 'pending' THEN output END,
           'retry_at', retry_at,
           'provenance', CASE WHEN status = 'pending' THEN provenance END))
FROM ended ORDER BY id"""

_REFUSE = """
INSERT INTO forge.interaction_events (interaction_id, kind, run_id, token, detail)
SELECT id, 'refused', :run_id, token, jsonb_strip_nulls(jsonb_build_object(
    'reason', reason, 'status', status, 'output', output,
    'error_class', error_class, 'error_message', error_message))
FROM json_to_recordset(CAST(:rows AS json)) AS r(id bigint, token bigint, reason text, status text,
    output text, error_class text, error_message text)"""

_LAST_COMMIT = """
WITH mine AS (
    SELECT r.run_id, r.workflow, r.partition FROM forge.runs r
    WHERE r.run_id = :run_id AND r.dataset = :dataset AND r.workflow = :workflow AND EXISTS (
        SELECT FROM unnest(CAST(:ordinals AS integer[])) AS t(ordinal)
        WHERE t.ordinal >= r.ordinal_from AND t.ordinal < r.ordinal_to)
    ORDER BY r.workflow, r.partition FOR UPDATE
)
UPDATE forge.runs r SET last_commit = clock_timestamp() FROM mine
WHERE r.run_id = mine.run_id AND r.workflow = mine.workflow AND r.partition = mine.partition"""


@dataclass(slots=True)
class _Sorted:
    """A batch of results set against the rows as they stand."""

    accepted: dict[int, Result]
    repeated: list[Result]
    refused: list[tuple[Result, str]]


class CommitStore(StoreBase):
    def commit(self, run_id: str, results: Sequence[Result], advance: Advance) -> CommitReport:
        """Write a batch of results and what follows from them, all or nothing.

        A result whose token is not the row's is refused: counted, noted as an event, returned. One
        that was already written under the same token counts as committed, so that a caller who
        lost the connection may simply call again.
        """
        for result in results:
            if result.status in (Status.RUNNING, Status.SKIPPED):
                raise ValueError(f"no attempt ends as {result.status}")
        if not results:
            return CommitReport()
        with self._engine.begin() as connection:
            targets = _lock_targets(connection, [result.interaction_id for result in results])
            batch = _sort(results, targets)
            skipped = newly_ready = 0
            if batch.accepted:
                skipped, newly_ready = _write(connection, batch.accepted, targets, advance)
            if batch.refused:
                _note_refusals(connection, run_id, batch.refused)
            if batch.accepted:
                _note_commit(connection, run_id, [targets[id_] for id_ in batch.accepted])
        written = [*batch.accepted.values(), *batch.repeated]
        return CommitReport(
            committed=len(written),
            retried=sum(1 for result in written if result.status is Status.PENDING),
            refused=tuple(result.interaction_id for result, _ in batch.refused),
            skipped=skipped,
            newly_ready=newly_ready,
        )


def _lock_targets(connection: sa.Connection, ids: Sequence[int]) -> dict[int, Any]:
    """Two workers that end two needs of one child take turns; the second sees the first's."""
    values = {"ids": sorted(set(ids))}
    connection.execute(sa.text(_LOCK_SUBJECTS), values)
    return {row.id: row for row in connection.execute(sa.text(_TARGETS), values).all()}


def _sort(results: Sequence[Result], targets: Mapping[int, Any]) -> _Sorted:
    batch = _Sorted({}, [], [])
    for result in results:
        row = targets.get(result.interaction_id)
        if row is None:
            batch.refused.append((result, "there is no such interaction"))
        elif row.finished_token == result.token:
            batch.repeated.append(result)
        elif row.superseded_at is not None:
            batch.refused.append((result, "the interaction was superseded"))
        elif row.status != Status.RUNNING:
            batch.refused.append((result, f"the interaction is {row.status}, not running"))
        elif row.token != result.token:
            batch.refused.append((result, f"the lease went to token {row.token}"))
        elif result.interaction_id in batch.accepted:
            batch.refused.append((result, "the batch holds two results of this interaction"))
        else:
            batch.accepted[result.interaction_id] = result
    return batch


def _write(
    connection: sa.Connection,
    accepted: Mapping[int, Result],
    targets: Mapping[int, Any],
    advance: Advance,
) -> tuple[int, int]:
    """Write results and their relatives' moves. (skipped, newly ready)."""
    rows = [targets[interaction_id] for interaction_id in accepted]
    families = load_families(
        connection, {row.subject_id for row in rows}, {row.workflow for row in rows}
    )
    touched = {}
    for row in rows:
        result = accepted[row.id]
        family = families.get((row.subject_id, row.workflow))
        if family is not None and result.status.final:
            family[row.step].state = StepState(
                result.status, ready=True, output=result.output, parsed=result.parsed
            )
            touched[row.subject_id, row.workflow] = family
    connection.execute(
        sa.text(_APPLY), {"rows": bulk_json([_row(result) for result in accepted.values()])}
    )
    moved = move_on(connection, touched.values(), advance)
    return moved.skipped, moved.newly_ready


def _row(result: Result) -> dict[str, Any]:
    seconds = result.provenance.get("seconds")
    return {
        "id": result.interaction_id,
        "token": result.token,
        "status": result.status,
        "delay": result.retry_in,
        "prompt": result.prompt,
        "system": result.system,
        "output": result.output,
        "parsed": result.parsed,
        "error_class": result.error_class,
        "error_message": result.error_message,
        "prompt_tokens": result.prompt_tokens,
        "output_tokens": result.output_tokens,
        "seconds": seconds if isinstance(seconds, int | float) else None,
        "provenance": dict(result.provenance),
    }


def _note_refusals(
    connection: sa.Connection, run_id: str, refused: Sequence[tuple[Result, str]]
) -> None:
    rows = [
        {
            "id": result.interaction_id,
            "token": result.token,
            "reason": reason,
            "status": result.status,
            "output": result.output,
            "error_class": result.error_class,
            "error_message": result.error_message,
        }
        for result, reason in refused
    ]
    connection.execute(sa.text(_REFUSE), {"rows": bulk_json(rows), "run_id": run_id})


def _note_commit(connection: sa.Connection, run_id: str, rows: Sequence[Any]) -> None:
    """Last, because all workers of a run share this row."""
    ordinals: dict[tuple[str, str], set[int]] = {}
    for row in rows:
        ordinals.setdefault((row.dataset, row.workflow), set()).add(row.ordinal)
    for (dataset, workflow), those in sorted(ordinals.items()):
        values = {"run_id": run_id, "dataset": dataset, "workflow": workflow}
        connection.execute(sa.text(_LAST_COMMIT), {**values, "ordinals": sorted(those)})
