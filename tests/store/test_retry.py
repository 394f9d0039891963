"""``forge retry``: what ended badly is done again with all that follows, and nothing else."""

import pytest
import sqlalchemy as sa

from resources.interaction import Claim, Result, Status
from resources.interaction_store import InteractionStore
from tests.store.workshop import (
    CANARY,
    DESCENDANTS,
    RAMP,
    VERSIONS,
    WORKFLOW,
    advance,
    claim,
    commit,
    completed,
    execute,
    failed,
    fetch,
    finish,
    planned,
    prepare,
    rejected,
    statuses,
)


def judge(claimed: Claim) -> Result:
    """The second subject's summary is rejected, the third's grade fails."""
    if (claimed.ordinal, claimed.step) == (1, "summarize"):
        return rejected(claimed)
    if (claimed.ordinal, claimed.step) == (2, "grade"):
        return failed(claimed)
    return completed(claimed)


def retry(
    store: InteractionStore,
    status: Status,
    step: str | None = None,
    versions: dict[str, str] = VERSIONS,
) -> int:
    return store.retry(
        CANARY, status=status, step=step, descendants=DESCENDANTS, planned=planned(versions)
    )


@pytest.fixture
def worked(store: InteractionStore) -> InteractionStore:
    prepare(store, 4)
    finish(store, judge=judge)
    return store


def live(engine: sa.Engine) -> list[tuple[int, str, int]]:
    sql = "SELECT ordinal, step, id FROM forge.interactions WHERE superseded_at IS NULL"
    return [(row["ordinal"], row["step"], row["id"]) for row in fetch(engine, sql)]


def test_a_rejected_step_and_all_below_are_planned_anew(
    worked: InteractionStore, postgres_engine: sa.Engine
) -> None:
    before = live(postgres_engine)
    assert retry(worked, Status.REJECTED) == 4
    after = live(postgres_engine)
    assert {row[:2] for row in set(after) - set(before)} == {(1, step) for step in VERSIONS}
    assert sorted(row[:2] for row in after) == sorted(row[:2] for row in before)
    assert statuses(postgres_engine, "summarize") == ["completed", "pending"] + ["completed"] * 2
    assert worked.ready_models(CANARY) == {"small": 1}
    assert finish(worked) == 4
    assert statuses(postgres_engine, "results") == ["completed"] * 2 + ["skipped", "completed"]


def test_a_renewed_claim_tells_how_often_another_answer_was_wanted(
    worked: InteractionStore, postgres_engine: sa.Engine
) -> None:
    for renewals in (1, 2):
        retry(worked, Status.REJECTED)
        (again,) = claim(worked)
        assert (again.step, again.attempt, again.renewals) == ("summarize", 0, renewals)
        commit(worked, rejected(again))
    execute(postgres_engine, "UPDATE forge.interactions SET status = 'failed' WHERE renewals = 2")
    retry(worked, Status.FAILED)
    assert {again.renewals for again in claim(worked) if again.step == "summarize"} == {2}


def test_a_failed_step_in_the_middle_leaves_its_parents_alone(
    worked: InteractionStore, postgres_engine: sa.Engine
) -> None:
    assert retry(worked, Status.FAILED, "grade") == 2
    assert worked.ready_models(CANARY) == {"big": 1}
    assert statuses(postgres_engine, "results")[2] == "pending"
    assert finish(worked) == 2
    assert statuses(postgres_engine, "results")[2] == "completed"


def test_the_old_rows_stay_in_the_trace(worked: InteractionStore) -> None:
    retry(worked, Status.REJECTED)
    trace = worked.trace("postings", WORKFLOW, "key-1")
    assert trace is not None
    old = [row for row in trace.interactions if row.superseded_at is not None]
    assert [row.status for row in old] == [Status.REJECTED] + [Status.SKIPPED] * 3
    assert old[0].error_message == "too short"
    assert {row.events[-1].detail["reason"] for row in old} == {"retry of rejected"}
    assert len(trace.interactions) == 8


def test_below_another_retried_step_a_row_waits(
    store: InteractionStore, postgres_engine: sa.Engine
) -> None:
    prepare(store, 1)
    finish(store)
    assert retry(store, Status.COMPLETED) == 4
    assert store.ready_models(CANARY) == {"small": 1}
    assert statuses(postgres_engine, "results") == ["pending"]
    assert finish(store) == 4


def test_nothing_to_retry(worked: InteractionStore, postgres_engine: sa.Engine) -> None:
    before = live(postgres_engine)
    assert retry(worked, Status.REJECTED, "grade") == 0
    assert retry(worked, Status.FAILED, "unknown") == 0
    worked.plan_stage(RAMP, planned(), advance)
    assert live(postgres_engine) == before
    assert retry(worked, Status.FAILED) == 2
    assert retry(worked, Status.FAILED) == 0


def test_a_retry_takes_the_version_of_today(
    worked: InteractionStore, postgres_engine: sa.Engine
) -> None:
    retry(worked, Status.FAILED, versions={**VERSIONS, "grade": "grade-2", "results": "results-2"})
    sql = "SELECT version FROM forge.interactions WHERE ordinal = 2 AND superseded_at IS NULL"
    versions = {row["version"] for row in fetch(postgres_engine, sql)}
    assert versions == {"summarize-1", "classify-1", "grade-2", "results-2"}


@pytest.mark.parametrize("status", [Status.PENDING, Status.RUNNING, Status.SKIPPED])
def test_only_what_was_attempted_can_be_retried(store: InteractionStore, status: Status) -> None:
    with pytest.raises(ValueError, match="only what a model answered"):
        retry(store, status)
