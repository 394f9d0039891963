"""Backfills as the UI starts them, under a real daemon: they take effect in the order of the stages."""

from tests.alerts.dagster_dev import DagsterDev
from tests.backfill.staged import CHECKS, EACH, NAMED, RESULTS, STAGED, Staged, batch_keys
from tests.pipeline.project import step

BATCHES = batch_keys(12)
EMPTY = "batch-0002"
EVERY = [*NAMED, *BATCHES]


def ended(dev: DagsterDev, backfill: str) -> str:
    dev.until(lambda: dev.backfill_status(backfill) != "REQUESTED", f"end of backfill {backfill}")
    return dev.backfill_status(backfill)


def test_fifteen_partitions_two_at_a_time(staged: Staged) -> None:
    """Dagster queues the batches first: they sort before the named stages."""
    staged.set_up(batches=len(BATCHES))
    with DagsterDev(staged.project) as dev:
        backfill = dev.backfill(EVERY, STAGED)
        assert ended(dev, backfill) == "COMPLETED_SUCCESS"
        assert dev.partitions(RESULTS) == {"materialized": set(EVERY)}
        assert dev.checks(RESULTS) == {name: {"succeeded": set(EVERY)} for name in CHECKS}
    assert staged.runs()[0][0] == BATCHES[0]
    assert staged.done() == EVERY
    assert staged.project.counts() == {"completed": EACH * len(EVERY)}
    assert staged.made_twice() == 0
    states = [status for _, status in staged.runs()]
    assert states.count("SUCCESS") == len(EVERY)
    assert 1 <= states.count("CANCELED") <= 4  # the queue was put in order by the first
    assert set(states) == {"SUCCESS", "CANCELED"}


def test_a_stage_that_fails_stops_the_later_ones_and_the_same_backfill_goes_on(
    staged: Staged,
) -> None:
    staged.set_up(batches=2, filled=1, output={"pattern": "Item [01] .*"})
    with DagsterDev(staged.project) as dev:
        first = dev.backfill([*NAMED, EMPTY], STAGED)
        assert ended(dev, first) == "COMPLETED_FAILED"
        assert staged.done() == ["canary-10", "ramp-50"]
        assert dev.partitions(RESULTS)["failed"] == {"full-500"}
        assert staged.run_ids(EMPTY, "SUCCESS")  # nothing to do, nothing made, nobody told
        found = dev.checks(RESULTS)
        others = {"executionFailed": {"full-500"}, "skipped": {EMPTY}}
        assert found["rejection_rate"] == {
            "succeeded": {"canary-10"},
            "failed": {"ramp-50"},
            **others,
        }
        assert found["error_rate"] == {"succeeded": {"canary-10", "ramp-50"}, **others}
        (refused,) = staged.run_ids("full-500", "FAILURE")
        assert "full-500 refused: ramp-50 failed: rejection_rate" in dev.failure(refused)
        staged.project.write_workflow([step("draft", "{text}", retries=0)])
        again = dev.backfill(NAMED, STAGED)
        assert ended(dev, again) == "COMPLETED_SUCCESS"
        passed = {"succeeded": set(NAMED), "skipped": {EMPTY}}
        assert dev.checks(RESULTS) == dict.fromkeys(CHECKS, passed)
    assert {row["verdict"] for row in map(staged.project.stage, NAMED)} == {"passed"}


def test_a_stage_of_the_terminal_that_overtakes_a_queued_run_leaves_the_checks_right(
    staged: Staged,
) -> None:
    """The terminal's run is planned last and ends first: what it evaluated is of older files."""
    staged.set_up()
    with DagsterDev(staged.project) as dev:
        queued = dev.launch("canary-10", STAGED)
        assert staged.project.forge("run", "--stage", "canary-10").code == 0
        dev.until(
            lambda: staged.project.dagster_runs()[queued] == "SUCCESS", "end of the queued run"
        )
        assert dev.checks(RESULTS) == {name: {"succeeded": {"canary-10"}} for name in CHECKS}
        assert all(
            found == {"succeeded": {"canary-10"}} for found in dev.checks("review/draft").values()
        )


def test_two_workflows_in_one_backfill(staged: Staged) -> None:
    """A run of both has two gates: when the first gives way the second must not wait on."""
    staged.set_up(batches=2)
    staged.project.write_workflow([step("rate", "{text}", retries=0)], name="critic")
    both = [*STAGED, "critic/gate", "critic/rate", "critic/results"]
    partitions = [*batch_keys(2), *NAMED]
    with DagsterDev(staged.project) as dev:
        backfill = dev.backfill(partitions, both)
        assert ended(dev, backfill) == "COMPLETED_SUCCESS"
        for results in (RESULTS, "critic/results"):
            assert dev.checks(results) == {name: {"succeeded": {*partitions}} for name in CHECKS}
    assert staged.project.counts() == {"completed": 2 * EACH * len(partitions)}
    assert staged.made_twice() == 0
