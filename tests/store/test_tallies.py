"""Tallies say at any moment what counting the interactions says."""

import random
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from resources.interaction import Status, StepState, Transition
from resources.interaction_store import InteractionStore, StageScope
from tests.store.workshop import (
    CANARY,
    DATASET,
    DESCENDANTS,
    RAMP,
    RUN,
    STAGES,
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
    subjects,
)

SUBJECTS = 24
CUTS = [
    STAGES,
    [("a", 0, 7), ("b", 7, 15), ("c", 15, 20)],
    [("a", 0, 12), ("b", 12, 40)],
]

TALLIED = """
SELECT dataset, workflow, stage, step, version, status, old_text, run_id, sum(n)::int AS n
FROM forge.interaction_tallies GROUP BY 1, 2, 3, 4, 5, 6, 7, 8 HAVING sum(n) <> 0"""

COUNTED = """
SELECT i.dataset, i.workflow, coalesce(st.ordinal_from, -1) AS stage, i.step, i.version, i.status,
       i.content_hash <> s.content_hash AS old_text,
       CASE WHEN i.status IN ('completed', 'rejected', 'failed') THEN i.run_id END AS run_id,
       count(*)::int AS n
FROM forge.interactions i
JOIN forge.subjects s ON s.id = i.subject_id
LEFT JOIN forge.stages st ON st.dataset = i.dataset
    AND i.ordinal >= st.ordinal_from AND i.ordinal < st.ordinal_to
WHERE i.superseded_at IS NULL GROUP BY 1, 2, 3, 4, 5, 6, 7, 8"""


def rows(engine: sa.Engine, sql: str) -> set[tuple[object, ...]]:
    return {tuple(row.values()) for row in fetch(engine, sql)}


def check(engine: sa.Engine) -> None:
    assert rows(engine, TALLIED) == rows(engine, COUNTED)


def unfolded(engine: sa.Engine) -> int:
    sql = "SELECT count(*) AS n FROM forge.interaction_tallies WHERE NOT folded"
    return int(fetch(engine, sql)[0]["n"])


def move_on(states: Mapping[str, StepState]) -> dict[str, Transition]:
    """Nothing moves below rows that were deleted."""
    return advance(states) if states.keys() == VERSIONS.keys() else {}


class History:
    """What may happen to a store, in an order drawn from a seed."""

    def __init__(self, store: InteractionStore, engine: sa.Engine, seed: int) -> None:
        self.store, self.engine = store, engine
        self.draw = random.Random(seed)
        self.cut = CUTS[0]
        self.versions = dict(VERSIONS)
        self.texts = 0

    def step(self) -> None:
        kinds = [self.work] * 6 + [self.plan] * 4 + [self.retry] * 2
        kinds += [self.recut, self.change_step, self.change_text, self.edit_text]
        kinds += [self.delete, self.reclaim, self.fold]
        self.draw.choice(kinds)()

    def scope(self) -> StageScope:
        return StageScope(DATASET, WORKFLOW, *self.draw.choice(self.cut))

    def plan(self) -> None:
        scope = self.scope()
        self.store.plan_stage(scope, planned(self.versions), move_on)
        self.store.register_run(f"run-{scope.partition}", scope, pid=1, host="here")

    def work(self) -> None:
        scope = self.scope()
        claims = claim(
            self.store,
            self.draw.choice(["small", "big"]),
            scope=scope,
            run_id=f"run-{scope.partition}",
            limit=self.draw.randint(1, 20),
            steps=self.draw.choice([None, ["summarize", "grade"]]),
        )
        self.draw.shuffle(claims)
        kept = claims[: self.draw.randint(0, len(claims))]
        judge = [completed, completed, completed, rejected, failed]
        results = [self.draw.choice(judge)(claimed) for claimed in kept]
        self.store.commit(f"run-{scope.partition}", results, move_on)

    def retry(self) -> None:
        self.store.retry(
            self.scope(),
            status=self.draw.choice([Status.COMPLETED, Status.REJECTED, Status.FAILED]),
            step=self.draw.choice([None, *VERSIONS]),
            descendants=DESCENDANTS,
            planned=planned(self.versions),
        )

    def recut(self) -> None:
        self.cut = self.draw.choice(CUTS)
        self.store.sync_stages(DATASET, self.cut)

    def change_step(self) -> None:
        step = self.draw.choice(list(VERSIONS))
        self.versions[step] = f"{step}-{self.draw.randint(1, 3)}"

    def change_text(self) -> None:
        self.texts += 1
        records = subjects(SUBJECTS)
        place = self.draw.randrange(SUBJECTS)
        records[place] = subjects(SUBJECTS, f"text {self.texts}")[place]
        self.store.ingest(DATASET, records)

    def edit_text(self) -> None:
        """By hand, behind the store's back."""
        value = self.draw.choice(["x", "y"])
        sql = "UPDATE forge.subjects SET content_hash = :value WHERE ordinal % 8 = :rest"
        execute(self.engine, sql, value=value, rest=self.draw.randrange(8))

    def delete(self) -> None:
        """By hand as well."""
        rest = self.draw.randrange(9)
        execute(self.engine, "DELETE FROM forge.interactions WHERE id % 9 = :rest", rest=rest)

    def reclaim(self) -> None:
        self.store.reclaim_run(f"run-{self.draw.choice(self.cut)[0]}")

    def fold(self) -> None:
        self.store.fold_tallies(DATASET, more_than=0)
        assert unfolded(self.engine) == 0


@pytest.mark.parametrize("seed", range(4))
def test_after_any_history_the_tallies_are_what_counting_gives(
    store: InteractionStore, postgres_engine: sa.Engine, seed: int
) -> None:
    prepare(store, SUBJECTS)
    history = History(store, postgres_engine, seed)
    for _ in range(60):
        history.step()
        check(postgres_engine)
    history.fold()
    check(postgres_engine)


def test_workers_a_folder_and_a_new_cut_at_once_lose_nothing(
    store: InteractionStore, postgres_engine: sa.Engine
) -> None:
    prepare(store, SUBJECTS)
    store.plan_stage(RAMP, planned(), advance)
    store.register_run(RUN, RAMP, pid=1, host="here")

    def work(scope: StageScope) -> None:
        while models := store.ready_models(scope):
            for model in models:
                for claimed in claim(store, model, scope=scope, limit=3):
                    commit(store, completed(claimed))

    def fold(number: int) -> None:
        for _ in range(30):
            store.fold_tallies(DATASET, more_than=number)

    def recut() -> None:
        for number in range(10):
            store.sync_stages(DATASET, CUTS[number % len(CUTS)])

    with ThreadPoolExecutor(6) as pool:
        jobs = [pool.submit(work, scope) for scope in (CANARY, RAMP)]
        jobs += [pool.submit(fold, number) for number in (0, 1)]
        jobs.append(pool.submit(recut))
        for job in jobs:
            job.result()
    check(postgres_engine)
    store.fold_tallies(DATASET, more_than=0)
    check(postgres_engine)
    assert unfolded(postgres_engine) == 0


def test_folding_waits_for_enough_and_says_what_it_saved(
    store: InteractionStore, postgres_engine: sa.Engine
) -> None:
    prepare(store, 10)
    finish(store)
    written = unfolded(postgres_engine)
    assert written > 10
    assert store.fold_tallies(DATASET, more_than=written) == 0
    assert unfolded(postgres_engine) == written
    # One row a step: all of one stage, one run and one status.
    assert store.fold_tallies(DATASET, more_than=written - 1) == written - 4
    assert len(fetch(postgres_engine, "SELECT FROM forge.interaction_tallies")) == 4
    assert store.fold_tallies(DATASET, more_than=0) == 0


def test_what_changes_no_count_writes_no_tally(
    store: InteractionStore, postgres_engine: sa.Engine
) -> None:
    prepare(store, 10)
    claims = claim(store)
    store.fold_tallies(DATASET, more_than=0)
    assert store.extend_leases(RUN, [claimed.interaction_id for claimed in claims], 900) == 10
    assert unfolded(postgres_engine) == 0


def test_rows_of_no_stage_are_counted_when_a_stage_takes_them(store: InteractionStore) -> None:
    store.ingest(DATASET, subjects(10))
    store.plan_stage(CANARY, planned(), advance)
    store.register_run(RUN, CANARY, pid=1, host="here")
    finish(store)
    store.sync_stages(DATASET, [("first", 0, 4)])
    (first,) = store.stage_counts(DATASET, WORKFLOW, VERSIONS)
    assert (first.completed, first.finished_subjects, first.missing) == (16, 4, 0)
    # Its speed is of all that the run made, also beyond the stages.
    assert first.worked == 40
    store.sync_stages(DATASET, STAGES)
    assert store.stage_counts(DATASET, WORKFLOW, VERSIONS)[0].completed == 40


def test_thousands_of_stages_of_which_few_hold_anything(store: InteractionStore) -> None:
    """Those that hold nothing, or whose rows are as many as they should be, cost nothing more."""
    prepare(store, 25)
    finish(store)
    cut = [(f"batch-{number}", number * 10, number * 10 + 10) for number in range(2_000)]
    store.sync_stages(DATASET, cut)
    counts = store.stage_counts(DATASET, WORKFLOW, VERSIONS)
    assert [row.partition for row in counts] == [name for name, _, _ in cut]
    assert [row.subjects for row in counts[:4]] == [10, 10, 5, 0]
    assert [row.completed for row in counts[:4]] == [40, 0, 0, 0]
    assert [row.missing for row in counts[:4]] == [0, 40, 20, 0]
    assert [row.finished_subjects for row in counts[:4]] == [10, 0, 0, 0]
    assert sum(row.subjects for row in counts) == 25


def test_a_subject_deleted_behind_our_back_is_not_expected(
    store: InteractionStore, postgres_engine: sa.Engine
) -> None:
    store.ingest(DATASET, subjects(10))
    store.sync_stages(DATASET, STAGES)
    execute(postgres_engine, "DELETE FROM forge.subjects WHERE ordinal = 3")
    store.plan_stage(CANARY, planned(), advance)
    (counts, *_) = store.stage_counts(DATASET, WORKFLOW, VERSIONS)
    assert (counts.subjects, counts.pending, counts.missing) == (9, 36, 0)


def test_an_emptied_table_has_no_tallies(
    store: InteractionStore, postgres_engine: sa.Engine
) -> None:
    prepare(store, 3)
    assert rows(postgres_engine, TALLIED)
    execute(postgres_engine, "TRUNCATE forge.interactions")
    assert not rows(postgres_engine, TALLIED)
