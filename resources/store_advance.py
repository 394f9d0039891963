"""Moving a subject's waiting steps on once their relatives ended: ready, or skipped."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from resources.interaction import SkipKind, Status, StepState, Transition
from resources.store_base import IN_SCOPE, bulk_json, scope_values
from resources.store_types import Advance, StageScope

Family = dict[str, "LiveStep"]
"""The live rows of one workflow for one subject, by step."""


@dataclass(slots=True)
class LiveStep:
    interaction_id: int
    state: StepState


@dataclass(frozen=True, slots=True)
class Moved:
    newly_ready: int = 0
    skipped: int = 0


_STATUS = {status.value: status for status in Status}

_FAMILIES = """
WITH waiting AS (
    SELECT DISTINCT subject_id, workflow FROM forge.interactions
    WHERE subject_id = ANY(CAST(:subjects AS bigint[]))
      AND workflow = ANY(CAST(:workflows AS text[]))
      AND superseded_at IS NULL AND status = 'pending' AND NOT ready
)
SELECT i.subject_id, i.workflow, i.id, i.step, i.status, i.ready, i.output, i.parsed, i.skip_kind
FROM forge.interactions i JOIN waiting w ON w.subject_id = i.subject_id AND w.workflow = i.workflow
WHERE i.subject_id = ANY(CAST(:subjects AS bigint[]))
  AND i.workflow = ANY(CAST(:workflows AS text[])) AND i.superseded_at IS NULL"""

_MOVE = """
WITH moved AS (
    UPDATE forge.interactions i
    SET ready = r.ready, skip_kind = r.skip_kind, skip_reason = r.skip_reason,
        status = CASE WHEN r.skip_kind IS NULL THEN 'pending' ELSE 'skipped' END,
        finished_at = CASE WHEN r.skip_kind IS NOT NULL THEN clock_timestamp() END
    FROM json_to_recordset(CAST(:rows AS json))
        AS r(id bigint, ready boolean, skip_kind text, skip_reason text)
    WHERE i.id = r.id
    RETURNING i.id, i.attempts, i.skip_kind, i.skip_reason
)
INSERT INTO forge.interaction_events (interaction_id, kind, attempt, detail)
SELECT id, 'skipped', attempts, jsonb_build_object('skip_kind', skip_kind, 'reason', skip_reason)
FROM moved WHERE skip_kind IS NOT NULL ORDER BY id"""

_STUCK = f"""
SELECT i.subject_id FROM forge.interactions i WHERE {IN_SCOPE} GROUP BY i.subject_id
HAVING bool_or(i.status = 'pending' AND NOT i.ready)
   AND bool_or(i.status NOT IN ('pending', 'running'))"""


def load_families(
    connection: sa.Connection, subject_ids: Collection[int], workflows: Collection[str]
) -> dict[tuple[int, str], Family]:
    """The live rows of those subjects that have a step which waits, by subject and workflow."""
    query = sa.text(_FAMILIES).columns(parsed=JSONB)
    values = {"subjects": list(subject_ids), "workflows": list(workflows)}
    families: dict[tuple[int, str], Family] = {}
    for subject_id, workflow, interaction_id, step, *state in connection.execute(
        query, values
    ).all():
        family = families.setdefault((subject_id, workflow), {})
        family[step] = LiveStep(interaction_id, step_state(*state))
    return families


def step_state(
    status: str, ready: bool, output: str | None, parsed: Any, skip_kind: str | None
) -> StepState:
    """The state in a row's columns of these names."""
    kind = SkipKind(skip_kind) if skip_kind else None
    return StepState(_STATUS[status], ready, output, parsed, kind)


def move_on(connection: sa.Connection, families: Collection[Family], advance: Advance) -> Moved:
    """Ask ``advance`` for each family until nothing changes, and write what it said.

    The caller holds the subjects; ``families`` show the states that it is about to commit.
    """
    moves: list[dict[str, object]] = []
    for family in families:
        for interaction_id, transition in _cascade(family, advance):
            kind = transition.skip_kind
            moves.append(
                {
                    "id": interaction_id,
                    "ready": kind is None,
                    "skip_kind": kind,
                    "skip_reason": None if kind is None else transition.skip_reason or kind,
                }
            )
    if moves:
        connection.execute(sa.text(_MOVE), {"rows": bulk_json(moves)})
    skipped = sum(1 for move in moves if move["skip_kind"] is not None)
    return Moved(newly_ready=len(moves) - skipped, skipped=skipped)


def _cascade(family: Family, advance: Advance) -> list[tuple[int, Transition]]:
    """Every pass moves at least one waiting step, so this ends."""
    done: list[tuple[int, Transition]] = []
    while moving := _movable(family, advance({step: row.state for step, row in family.items()})):
        for step, transition in moving.items():
            row = family[step]
            kind = transition.skip_kind
            status = Status.PENDING if kind is None else Status.SKIPPED
            row.state = StepState(status, ready=kind is None, skip_kind=kind)
            done.append((row.interaction_id, transition))
    return done


def _movable(family: Family, transitions: Mapping[str, Transition]) -> dict[str, Transition]:
    """Only steps that still wait may move, whatever else was answered."""
    moving = {}
    for step, transition in transitions.items():
        row = family.get(step)
        waits = row is not None and row.state.status is Status.PENDING and not row.state.ready
        if waits and (transition.ready or transition.skip_kind is not None):
            moving[step] = transition
    return moving


def release_stuck(connection: sa.Connection, scope: StageScope, advance: Advance) -> Moved:
    """Move on the subjects of a stage that have a waiting step beside an ended one.

    New rows below kept ancestors need this: no result will come in that moves them. The caller
    holds the stage's subjects.
    """
    subject_ids = list(connection.execute(sa.text(_STUCK), scope_values(scope)).scalars())
    if not subject_ids:
        return Moved()
    families = load_families(connection, subject_ids, [scope.workflow])
    return move_on(connection, families.values(), advance)
