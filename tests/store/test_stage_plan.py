"""Planning: which rows a stage has after the workflow or its subjects changed."""

import sqlalchemy as sa

from resources.interaction import Status
from resources.interaction_store import InteractionStore, PlannedStep, PlanReport, StageScope
from tests.store.workshop import (
    CANARY,
    DATASET,
    NEEDS,
    RAMP,
    STAGES,
    VERSIONS,
    WORKFLOW,
    advance,
    claim,
    commit,
    completed,
    execute,
    fetch,
    finish,
    planned,
    prepare,
    rejected,
    statuses,
    subjects,
)

LIVE = """
SELECT step, version, status, ready, ordinal FROM forge.interactions
WHERE superseded_at IS NULL ORDER BY id"""


def test_a_plan_is_all_steps_of_all_subjects_of_the_range(
    store: InteractionStore, postgres_engine: sa.Engine
) -> None:
    store.ingest(DATASET, subjects(12))
    assert store.plan_stage(CANARY, planned(), advance) == PlanReport(created=40)
    assert store.plan_stage(RAMP, planned(), advance) == PlanReport(created=8)
    rows = fetch(postgres_engine, LIVE)
    assert [row["ordinal"] for row in rows] == sorted(list(range(12)) * 4)
    assert [row["step"] for row in rows[:4]] == list(NEEDS)
    assert {row["step"] for row in rows if row["ready"]} == {"summarize"}
    assert {row["status"] for row in rows} == {"pending"}


def test_planning_again_writes_nothing(store: InteractionStore, postgres_engine: sa.Engine) -> None:
    prepare(store, 3)
    finish(store)
    before = fetch(postgres_engine, "SELECT *, xmin FROM forge.interactions ORDER BY id")
    assert store.plan_stage(CANARY, planned(), advance) == PlanReport()
    assert fetch(postgres_engine, "SELECT *, xmin FROM forge.interactions ORDER BY id") == before


def test_an_empty_stage_has_an_empty_plan(store: InteractionStore) -> None:
    store.ingest(DATASET, subjects(3))
    assert store.plan_stage(RAMP, planned(), advance) == PlanReport()


def test_a_changed_step_supersedes_itself_and_what_follows(
    store: InteractionStore, postgres_engine: sa.Engine
) -> None:
    prepare(store, 2)
    finish(store)
    # Versions contain the ancestors: a new grade is a new results, not a new summarize.
    changed = {**VERSIONS, "grade": "grade-2", "results": "results-2"}
    report = store.plan_stage(CANARY, planned(changed), advance)
    assert report == PlanReport(created=4, superseded=4, newly_ready=2)
    assert statuses(postgres_engine, "summarize") == ["completed"] * 2
    assert statuses(postgres_engine, "classify") == ["completed"] * 2
    assert store.ready_models(CANARY) == {"big": 2}
    assert finish(store) == 4
    trace = store.trace(DATASET, WORKFLOW, "key-0")
    assert trace is not None
    grades = [row for row in trace.interactions if row.step == "grade"]
    assert [(row.version, row.status) for row in grades] == [
        ("grade-1", Status.COMPLETED),
        ("grade-2", Status.COMPLETED),
    ]
    assert [row.superseded_at is None for row in grades] == [False, True]


def test_a_new_step_below_a_rejected_one_is_skipped_at_once(
    store: InteractionStore, postgres_engine: sa.Engine
) -> None:
    prepare(store, 1)
    commit(store, rejected(claim(store)[0]))
    changed = {**VERSIONS, "grade": "grade-2", "results": "results-2"}
    report = store.plan_stage(CANARY, planned(changed), advance)
    assert report == PlanReport(created=2, superseded=2, skipped=2)
    assert statuses(postgres_engine, "results") == ["skipped"]


def test_a_removed_step_is_superseded(store: InteractionStore, postgres_engine: sa.Engine) -> None:
    prepare(store, 2)
    finish(store)
    fewer = {name: version for name, version in VERSIONS.items() if name != "results"}
    assert store.plan_stage(CANARY, planned(fewer), advance) == PlanReport(superseded=2)
    assert statuses(postgres_engine, "results") == []
    assert store.open_work(CANARY).total == 0


def test_a_run_of_the_old_plan_gets_nothing_more(store: InteractionStore) -> None:
    """Not even of a step that stays: it would move on what comes after by its own rules."""
    prepare(store, 2)
    held = claim(store, limit=1, versions=VERSIONS)[0]
    assert not store.planned_otherwise(CANARY, VERSIONS)
    changed = {**VERSIONS, "grade": "grade-2", "results": "results-2"}
    store.plan_stage(CANARY, planned(changed), advance)
    assert store.planned_otherwise(CANARY, VERSIONS)
    assert claim(store, versions=VERSIONS) == []
    assert commit(store, completed(held)).refused == (held.interaction_id,)
    assert not store.planned_otherwise(CANARY, changed)
    assert [c.step for c in claim(store, versions=changed)] == ["summarize", "summarize"]


def test_a_superseded_row_in_work_is_given_back_and_refuses_its_result(
    store: InteractionStore, postgres_engine: sa.Engine
) -> None:
    prepare(store, 1)
    late = claim(store)[0]
    changed = {name: f"{name}-2" for name in VERSIONS}
    store.plan_stage(CANARY, planned(changed), advance)
    row = store.get_interaction_by_id(late.interaction_id)
    assert row is not None
    assert (row.status, row.token, row.superseded_at is None) == (Status.PENDING, None, False)
    assert commit(store, completed(late)).refused == (late.interaction_id,)
    assert store.ready_models(CANARY) == {"small": 1}
    assert store.reclaim_run("run-1") == 0


def test_a_row_lost_behind_our_back_is_planned_anew_and_becomes_ready(
    store: InteractionStore, postgres_engine: sa.Engine
) -> None:
    prepare(store, 2)
    finish(store)
    execute(postgres_engine, "DELETE FROM forge.interactions WHERE step = 'grade' AND ordinal = 1")
    report = store.plan_stage(CANARY, planned(), advance)
    assert report == PlanReport(created=1, newly_ready=1)
    assert statuses(postgres_engine, "grade") == ["completed", "pending"]
    assert finish(store) == 1


def test_workflows_over_the_same_subjects_do_not_touch_each_other(store: InteractionStore) -> None:
    prepare(store, 2)
    other = StageScope(DATASET, "other", "canary-10", 0, 10)
    store.plan_stage(other, [PlannedStep("only", "only-1", "small", root=True)], advance)
    assert store.open_work(other).ready == 2
    assert store.open_work(CANARY).ready == 2
    changed = {name: f"{name}-2" for name in VERSIONS}
    store.plan_stage(CANARY, planned(changed), advance)
    assert store.open_work(other).ready == 2
    assert [row.step for row in store.step_counts(other)] == ["only"]


def test_stages_keep_their_order_and_follow_the_configuration(
    store: InteractionStore, postgres_engine: sa.Engine
) -> None:
    rows = "SELECT partition, ordinal_from, ordinal_to FROM forge.stages ORDER BY position"
    for stages in (STAGES, STAGES, [("zero", 0, 5), ("canary-10", 5, 15)], []):
        store.sync_stages(DATASET, stages)
        assert [tuple(row.values()) for row in fetch(postgres_engine, rows)] == stages
