"""The store's rows as they are in the database, and what holds of them whatever was called."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from resources.interaction import SkipKind, Status, StepState, Transition
from tests.store.workshop import NEEDS, fetch

Event = tuple[str, str | None, int | None]
"""Kind, run, token."""

ELSEWHERE = "elsewhere"
"""What ``summarize`` says of a subject that needs no grade: a branch that is not taken."""

READY = Transition(ready=True)

_rows = """
SELECT s.key, i.workflow, i.step, i.version, i.content_hash, i.ordinal, i.ready, i.renewals, i.id,
       i.status, i.attempts, i.claims, i.losses, i.run_id, i.token, i.finished_token, i.output,
       i.error_class, i.skip_kind, i.retry_at <= clock_timestamp() AS due,
       i.lease_until < clock_timestamp() AS expired, i.superseded_at IS NOT NULL AS superseded,
       i.model, i.finished_at IS NOT NULL AS finished, to_jsonb(i) AS whole
FROM forge.interactions i JOIN forge.subjects s ON s.id = i.subject_id
WHERE i.dataset = :dataset ORDER BY i.id"""
_events = """
SELECT e.id, e.interaction_id, e.kind, e.run_id, e.token, e::text AS whole
FROM forge.interaction_events e JOIN forge.interactions i ON i.id = e.interaction_id
WHERE i.dataset = :dataset ORDER BY e.id"""
_runs = """
SELECT run_id, workflow, partition, state, first_claim IS NOT NULL AS claimed,
       last_commit IS NOT NULL AS committed, ended_at IS NOT NULL AS ended
FROM forge.runs WHERE dataset = :dataset"""
# All in one query: asked after every step.
_everything = "SELECT " + ", ".join(
    f"(SELECT coalesce(json_agg(x), '[]') FROM ({query}) x) AS {name}"
    for name, query in (("rows", _rows), ("events", _events), ("runs", _runs))
)


def read(engine: sa.Engine, dataset: str) -> dict[str, Any]:
    """``rows``, ``events`` and ``runs`` of a dataset."""
    return fetch(engine, _everything, dataset=dataset)[0]


def verdict(step: str, states: Mapping[str, StepState]) -> Transition | None:
    """What a waiting step becomes; None while it must wait."""
    needs = [states.get(need) for need in NEEDS[step]]
    ended = [need for need in needs if need is not None and need.status.final]
    if len(ended) < len(needs):
        return None
    absent = [need.skip_kind is SkipKind.BRANCH for need in ended]
    bad = [need.status is not Status.COMPLETED for need in ended]
    if any(lost and not gone for lost, gone in zip(bad, absent, strict=True)):
        return Transition(skip_kind=SkipKind.ANCESTOR, skip_reason="a need was lost")
    if needs and all(absent):
        return Transition(skip_kind=SkipKind.BRANCH, skip_reason="no need has a result")
    if step == "grade" and ended[0].output == ELSEWHERE:
        return Transition(skip_kind=SkipKind.BRANCH, skip_reason="branch not taken")
    return READY


def check_rows(rows: Sequence[Mapping[str, Any]], events: Mapping[int, Sequence[Event]]) -> None:
    """What holds of every row by itself and among its live relatives."""
    families: dict[tuple[str, str], dict[str, StepState]] = {}
    for row in rows:
        if row["superseded"]:
            continue
        family = families.setdefault((row["key"], row["workflow"]), {})
        assert row["step"] not in family, f"two live rows: {row}"
        kind = SkipKind(row["skip_kind"]) if row["skip_kind"] else None
        status = Status(row["status"])
        family[row["step"]] = StepState(status, row["ready"], row["output"], None, kind)
    for family in families.values():
        for step, state in family.items():
            waits = state.status is Status.PENDING and not state.ready
            move = verdict(step, family)
            assert waits is (move is None), f"{step} ready too early or left behind: {family}"
            if move is not None:
                assert state.skip_kind is move.skip_kind, f"{step} skipped wrongly: {family}"
    for row in rows:
        kinds = Counter(kind for kind, _, _ in events.get(row["id"], ()))
        final = Status(row["status"]).final
        ends = sum(kinds[status.value] for status in Status if status.final)
        assert kinds["claimed"] == row["claims"], row
        assert ends == final, row
        assert kinds["retried"] + ends - kinds["skipped"] == row["attempts"], row
        assert kinds["superseded"] == row["superseded"], row
        assert kinds[row["status"]] == final, row
        open_claims = kinds["claimed"] - kinds["reclaimed"] - row["attempts"]
        assert open_claims == (row["status"] == "running") or row["superseded"], row
