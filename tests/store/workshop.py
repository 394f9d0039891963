"""A small workflow and its subjects, to drive the store with."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from resources.interaction import (
    Claim,
    ErrorClass,
    Result,
    SkipKind,
    Status,
    StepState,
    Transition,
)
from resources.interaction_store import (
    CommitReport,
    InteractionStore,
    PlannedStep,
    StageScope,
    SubjectRecord,
)

DATASET = "postings"
WORKFLOW = "review"
NEEDS: dict[str, tuple[str, ...]] = {
    "summarize": (),
    "classify": ("summarize",),
    "grade": ("summarize",),
    "results": ("classify", "grade"),
}
MODELS = {"summarize": "small", "classify": "small", "grade": "big", "results": "small"}
ANCESTORS = {
    "summarize": (),
    "classify": ("summarize",),
    "grade": ("summarize",),
    "results": ("summarize", "classify", "grade"),
}
DESCENDANTS = {
    "summarize": ("classify", "grade", "results"),
    "classify": ("results",),
    "grade": ("results",),
    "results": (),
}
VERSIONS = {name: f"{name}-1" for name in NEEDS}
CANARY = StageScope(DATASET, WORKFLOW, "canary-10", 0, 10)
RAMP = StageScope(DATASET, WORKFLOW, "ramp-50", 10, 60)
STAGES = [("canary-10", 0, 10), ("ramp-50", 10, 60), ("full-500", 60, 560)]
RUN = "run-1"


def planned(versions: Mapping[str, str] = VERSIONS) -> list[PlannedStep]:
    return [
        PlannedStep(name, versions[name], MODELS[name], root=not NEEDS[name]) for name in versions
    ]


def advance(states: Mapping[str, StepState]) -> dict[str, Transition]:
    """Ready when all needs completed, skipped when one ended otherwise."""
    moves: dict[str, Transition] = {}
    for name, state in states.items():
        needs = [states[need] for need in NEEDS[name]]
        if state.status is Status.PENDING and not state.ready:
            if all(need.status is Status.COMPLETED for need in needs):
                moves[name] = Transition(ready=True)
            elif all(need.status.final for need in needs):
                bad = next(n for n in NEEDS[name] if states[n].status is not Status.COMPLETED)
                moves[name] = Transition(skip_kind=SkipKind.ANCESTOR, skip_reason=f"{bad} ended so")
    return moves


def record(key: str, **fields: Any) -> SubjectRecord:
    text = json.dumps(fields, sort_keys=True)
    return SubjectRecord(key, fields, hashlib.sha256(text.encode()).hexdigest())


def subjects(count: int, text: str = "text") -> list[SubjectRecord]:
    return [record(f"key-{number}", text=f"{text} {number}") for number in range(count)]


def prepare(store: InteractionStore, count: int, scope: StageScope = CANARY) -> None:
    """Subjects, stages, a planned stage and a registered run."""
    store.ingest(DATASET, subjects(count))
    store.sync_stages(DATASET, STAGES)
    store.plan_stage(scope, planned(), advance)
    store.register_run(RUN, scope, pid=1, host="here")


def claim(
    store: InteractionStore,
    model: str = "small",
    *,
    scope: StageScope = CANARY,
    run_id: str = RUN,
    limit: int = 1000,
    lease: float = 600,
    steps: Iterable[str] | None = None,
    versions: Mapping[str, str] | None = None,
) -> list[Claim]:
    return store.claim(
        scope,
        model,
        run_id=run_id,
        limit=limit,
        lease_seconds=lease,
        steps=None if steps is None else list(steps),
        versions=versions,
        ancestors_of=ANCESTORS,
    )


def completed(claimed: Claim, output: str | None = None, **more: Any) -> Result:
    text = output if output is not None else f"{claimed.step} of {claimed.subject_key}"
    return Result(
        claimed.interaction_id, claimed.token, Status.COMPLETED, prompt="p", output=text, **more
    )


def rejected(claimed: Claim, message: str = "too short") -> Result:
    return Result(
        claimed.interaction_id,
        claimed.token,
        Status.REJECTED,
        prompt="p",
        output="no",
        error_class=ErrorClass.CONTRACT,
        error_message=message,
    )


def failed(claimed: Claim, message: str = "the engine broke") -> Result:
    return Result(
        claimed.interaction_id,
        claimed.token,
        Status.FAILED,
        error_class=ErrorClass.ENGINE,
        error_message=message,
    )


def commit(store: InteractionStore, *results: Result, run_id: str = RUN) -> CommitReport:
    return store.commit(run_id, results, advance)


def finish(
    store: InteractionStore,
    scope: StageScope = CANARY,
    judge: Callable[[Claim], Result] = completed,
    run_id: str = RUN,
) -> int:
    """Work on the stage until nothing is ready. How many results were committed."""
    done = 0
    while models := store.ready_models(scope):
        for model in models:
            claims = claim(store, model, scope=scope, run_id=run_id)
            done += commit(store, *map(judge, claims), run_id=run_id).committed
    return done


def execute(engine: sa.Engine, sql: str, **values: Any) -> int:
    """Run a statement as an outsider would. Rows touched."""
    with engine.begin() as connection:
        return connection.execute(sa.text(sql), values).rowcount


def fetch(engine: sa.Engine, sql: str, **values: Any) -> list[dict[str, Any]]:
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(sa.text(sql), values).mappings()]


def statuses(engine: sa.Engine, step: str) -> list[str]:
    """The live rows' status of one step, by ordinal."""
    sql = (
        "SELECT status FROM forge.interactions"
        " WHERE step = :step AND superseded_at IS NULL ORDER BY ordinal"
    )
    return [row["status"] for row in fetch(engine, sql, step=step)]
