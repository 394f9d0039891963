"""A store with many interactions, as runs over thousands of batches would have left it.

Everything has ended but the last batches, which are planned and wait to be worked on.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from forge_assets.config import project_root
from forge_assets.workflow.plan import advance, ancestors, step_versions
from forge_assets.workflow.spec import Workflow, load_workflow
from resources.interaction import StepState, Transition
from resources.interaction_store import InteractionStore, PlannedStep, StageScope

DATASET = "scale"
BATCH_SUBJECTS = 500
PARTITIONS = 2_000
PROMPT = "Say in one short sentence what this part does. " * 8
_MODELS = ("smollm2-135m", "smollm2-135m-fp32")
_CHUNK_SUBJECTS = 25_000

_SUBJECTS = """
INSERT INTO forge.subjects (dataset, key, ordinal, fields, content_hash)
SELECT :dataset, 'key-' || n, n, jsonb_build_object('text', repeat('docs ', 60)), md5('' || n)
FROM generate_series(CAST(:first AS integer), :end - 1) AS n"""

# Three in a hundred rejected; the step with a condition is skipped for three subjects of five.
_ENDED = """
INSERT INTO forge.interactions
    (subject_id, dataset, workflow, step, model, version, content_hash, ordinal, status, ready,
     attempts, claims, run_id, finished_token, prompt, output, error_class, error_message,
     skip_kind, skip_reason, seconds, claimed_at, finished_at)
SELECT s.id, s.dataset, :workflow, p.step, p.model, p.version, s.content_hash, s.ordinal, x.status,
       x.status <> 'skipped', 1, 1,
       CASE WHEN x.status <> 'skipped' THEN 'run-' || s.ordinal / :batch END,
       nextval('forge.claim_tokens'), :prompt, repeat('an answer ', 8),
       CASE x.status WHEN 'rejected' THEN 'contract' END,
       CASE x.status WHEN 'rejected' THEN 'too long' END,
       CASE x.status WHEN 'skipped' THEN 'branch' END,
       CASE x.status WHEN 'skipped' THEN 'not taken' END,
       0.5, clock_timestamp(), clock_timestamp()
FROM forge.subjects s
CROSS JOIN json_to_recordset(CAST(:steps AS json))
    AS p(step text, model text, version text, branch boolean)
CROSS JOIN LATERAL (SELECT CASE WHEN p.branch AND s.ordinal % 5 > 1 THEN 'skipped'
                                WHEN s.ordinal % 33 = 0 THEN 'rejected'
                                ELSE 'completed' END AS status) x
WHERE s.dataset = :dataset AND s.ordinal >= :first AND s.ordinal < :end
ORDER BY s.ordinal"""

_EVENTS = """
INSERT INTO forge.interaction_events (interaction_id, at, kind, run_id, token, attempt, detail)
SELECT i.id, clock_timestamp(), e.kind, i.run_id, i.finished_token, 0,
       jsonb_build_object('seconds', 0.5, 'output_tokens', 12)
FROM forge.interactions i CROSS JOIN (VALUES ('claimed'), ('completed')) AS e(kind)
WHERE i.dataset = :dataset AND i.workflow = :workflow AND i.superseded_at IS NULL
  AND i.ordinal >= :first AND i.ordinal < :end
ORDER BY i.id"""

_RUNS = """
INSERT INTO forge.runs (run_id, workflow, partition, dataset, ordinal_from, ordinal_to, pid, host,
                        first_claim, last_commit, state, ended_at)
SELECT 'run-' || st.position, :workflow, st.partition, st.dataset, st.ordinal_from, st.ordinal_to,
       1, 'here', clock_timestamp(), clock_timestamp() + interval '10 minutes', 'finished',
       clock_timestamp()
FROM forge.stages st WHERE st.dataset = :dataset AND st.ordinal_from < :end"""


@dataclass(frozen=True)
class Filled:
    """What the store holds: its workflow, all stages, and those that wait to be worked on."""

    workflow: Workflow
    versions: Mapping[str, str]
    stages: Sequence[tuple[str, int, int]]
    waiting: Sequence[StageScope]

    @property
    def ancestors(self) -> Mapping[str, frozenset[str]]:
        return ancestors(self.workflow)

    @property
    def models(self) -> list[str]:
        return sorted({step.model for step in self.workflow.steps})

    def advance(self, states: Mapping[str, StepState]) -> dict[str, Transition]:
        return advance(self.workflow, states)


def fill(engine: sa.Engine, rows: int, open_rows: int, say: Callable[[str], None]) -> Filled:
    """About ``rows`` interactions, ``open_rows`` of them planned only; the rest has ended."""
    workflow = load_workflow(project_root() / "workflows" / "api_review.yaml", _MODELS)
    versions = step_versions(workflow, {model: {"source": model} for model in _MODELS})
    batches = max(2, rows // len(versions) // BATCH_SUBJECTS)
    waiting = min(batches - 1, max(1, open_rows // len(versions) // BATCH_SUBJECTS))
    ended = (batches - waiting) * BATCH_SUBJECTS
    stages = [
        (f"batch-{number + 1:04}", number * BATCH_SUBJECTS, (number + 1) * BATCH_SUBJECTS)
        for number in range(max(PARTITIONS, batches))
    ]
    scopes = [
        StageScope(DATASET, workflow.name, *stage) for stage in stages[batches - waiting : batches]
    ]
    store = InteractionStore(engine)
    store.sync_stages(DATASET, stages)
    _fill_ended(engine, workflow, versions, batches * BATCH_SUBJECTS, ended, say)
    planned = [
        PlannedStep(step.name, versions[step.name], step.model, root=not step.needs)
        for step in workflow.steps
    ]
    filled = Filled(workflow, versions, stages, scopes)
    for scope in scopes:
        store.plan_stage(scope, planned, filled.advance)
    # As autovacuum and the checkpointer would have left it.
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("VACUUM (ANALYZE)"))
        connection.execute(sa.text("CHECKPOINT"))
    return filled


def _fill_ended(
    engine: sa.Engine,
    workflow: Workflow,
    versions: Mapping[str, str],
    subjects: int,
    ended: int,
    say: Callable[[str], None],
) -> None:
    steps = [
        {
            "step": step.name,
            "model": step.model,
            "version": versions[step.name],
            "branch": step.when is not None,
        }
        for step in workflow.steps
    ]
    values = {
        "dataset": DATASET,
        "workflow": workflow.name,
        "steps": json.dumps(steps),
        "prompt": PROMPT,
        "batch": BATCH_SUBJECTS,
    }
    for first in range(0, subjects, _CHUNK_SUBJECTS):
        end = min(first + _CHUNK_SUBJECTS, subjects)
        with engine.begin() as connection:
            connection.execute(sa.text(_SUBJECTS), {**values, "first": first, "end": end})
        chunk = {**values, "first": first, "end": min(end, ended)}
        with engine.begin() as connection:
            connection.execute(sa.text(_ENDED), chunk)
            connection.execute(sa.text(_EVENTS), chunk)
            connection.execute(sa.text("ANALYZE forge.subjects, forge.interactions"))
        say(f"filled {end:,} of {subjects:,} subjects")
    with engine.begin() as connection:
        connection.execute(sa.text(_RUNS), {**values, "end": ended})
