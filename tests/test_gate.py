"""The gate: open, wait, or refuse with one sentence that ends in a command."""

from dataclasses import replace

import pytest

from forge_assets.config import Thresholds
from forge_assets.gate import Decision, Open, Refuse, RunLiveness, Wait, evaluate_gate
from resources.stage_counts import StageCounts

LIMITS = Thresholds()
OWN = StageCounts("ramp-50", 10, 60, subjects=50, steps=4, missing=200)
PASSED = StageCounts(
    *("canary-10", 0, 10),
    subjects=10,
    steps=5,
    completed=50,
    working_seconds=20,
    worked=50,
    finished_subjects=10,
)
BAD = replace(PASSED, completed=39, rejected=11)
UNTOUCHED = StageCounts("canary-10", 0, 10, subjects=10, steps=5, missing=50)
HALF = replace(PASSED, completed=20, pending=28, running=2)
IDLE = RunLiveness()
KNOWN = RunLiveness(asked_for=True)
WORKING = RunLiveness(working="1a2b", asked_for=True)
QUEUED = RunLiveness(queued="3c4d", daemon_alive=True, asked_for=True)
PROMISED = RunLiveness(promised="abcd", daemon_alive=True)
STRANDED = RunLiveness(queued="3c4d", daemon_alive=False, asked_for=True)


def gate(
    previous: StageCounts | None, runs: RunLiveness = IDLE, own: StageCounts = OWN
) -> Decision:
    return evaluate_gate(own, previous, runs, LIMITS)


def test_the_first_stage_is_open() -> None:
    assert gate(None) == Open()


@pytest.mark.parametrize("runs", [IDLE, KNOWN, WORKING, QUEUED, STRANDED])
def test_open_when_the_stage_before_passed_whatever_runs(runs: RunLiveness) -> None:
    assert gate(PASSED, runs) == Open()


@pytest.mark.parametrize("previous", [None, PASSED, BAD])
def test_a_stage_without_subjects_is_refused(previous: StageCounts | None) -> None:
    own = StageCounts("full-500", 60, 560, steps=4)
    assert gate(previous, WORKING, own) == Refuse("stage full-500 holds no subjects yet")


def test_an_empty_stage_before_is_refused() -> None:
    assert gate(StageCounts("canary-10", 0, 10, steps=5)) == Refuse(
        "ramp-50 refused: stage canary-10 before it holds no subjects yet"
    )


@pytest.mark.parametrize("previous", [UNTOUCHED, HALF, BAD])
def test_waits_while_a_living_run_works_on_the_stage_before(previous: StageCounts) -> None:
    reason = "ramp-50 waits for canary-10, which run 1a2b is working on"
    assert gate(previous, WORKING) == Wait(reason)
    assert gate(previous, replace(WORKING, queued="x", daemon_alive=True)) == Wait(reason)


@pytest.mark.parametrize("previous", [UNTOUCHED, HALF, BAD])
def test_waits_while_the_stage_before_is_queued_and_a_daemon_lives(previous: StageCounts) -> None:
    assert gate(previous, QUEUED) == Wait(
        "ramp-50 waits for canary-10, whose run 3c4d is queued", for_queued="3c4d"
    )


@pytest.mark.parametrize("previous", [UNTOUCHED, HALF, BAD])
def test_waits_while_a_backfill_has_yet_to_start_the_stage_before(previous: StageCounts) -> None:
    assert gate(previous, PROMISED) == Wait(
        "ramp-50 waits for canary-10, which backfill abcd is about to start"
    )


def test_does_not_wait_for_a_backfill_without_a_daemon() -> None:
    assert isinstance(gate(UNTOUCHED, replace(PROMISED, daemon_alive=False)), Refuse)


def test_does_not_wait_for_a_run_that_nobody_will_start() -> None:
    assert gate(UNTOUCHED, STRANDED) == Refuse(
        "ramp-50 refused: run 3c4d of canary-10 is queued but no Dagster daemon is alive "
        "to start it; start one with `dagster dev`, or run `forge run --stage canary-10`"
    )


def test_refuses_after_a_failed_stage() -> None:
    assert gate(BAD, KNOWN) == Refuse(
        "ramp-50 refused: canary-10 failed: rejection_rate 22.0 % (11 of 50), limit 15 %; "
        "success_rate 78.0 % (39 of 50), target above 85 % (a warning); "
        "look with `forge report --stage canary-10`, "
        "then `forge retry --stage canary-10 --status rejected`"
    )


def test_the_remedy_fits_what_failed() -> None:
    failed = gate(replace(PASSED, completed=40, failed=10), KNOWN)
    assert isinstance(failed, Refuse)
    assert failed.reason.endswith("then `forge retry --stage canary-10 --status failed`")
    slow = gate(replace(PASSED, working_seconds=600), STRANDED)
    assert slow == Refuse(
        "ramp-50 refused: canary-10 failed: throughput 5.0 interactions a minute "
        "(50 in 600.0 s of work), at least 80; look with `forge report --stage canary-10`, "
        "then `forge retry --stage canary-10 --status completed`"
    )


@pytest.mark.parametrize("pending", [0, 50])
def test_refuses_when_the_stage_before_was_never_asked_for(pending: int) -> None:
    previous = replace(UNTOUCHED, pending=pending, missing=50 - pending)
    assert gate(previous) == Refuse(
        "ramp-50 refused: canary-10 has not run; run canary-10 first: `forge run --stage canary-10`"
    )


def test_refuses_an_incomplete_stage_with_its_counts() -> None:
    expected = Refuse(
        "ramp-50 refused: canary-10 is incomplete: 28 pending, 2 running of 50 interactions; "
        "finish it: `forge run --stage canary-10`"
    )
    assert gate(HALF) == expected
    assert gate(HALF, KNOWN) == expected
    cut_short = gate(UNTOUCHED, KNOWN)
    assert isinstance(cut_short, Refuse)
    assert "canary-10 is incomplete: 50 missing of 50 interactions" in cut_short.reason


def test_refuses_a_stale_stage() -> None:
    assert gate(replace(PASSED, stale=4), KNOWN) == Refuse(
        "ramp-50 refused: canary-10 is stale: 4 stale after a change; "
        "run it again: `forge run --stage canary-10`"
    )


@pytest.mark.parametrize("previous", [UNTOUCHED, HALF, BAD, replace(PASSED, stale=1)])
@pytest.mark.parametrize("runs", [IDLE, KNOWN, WORKING, QUEUED, STRANDED])
def test_never_open_before_the_stage_before_passed(
    previous: StageCounts, runs: RunLiveness
) -> None:
    decision = gate(previous, runs)
    assert isinstance(decision, Wait | Refuse)
    assert "\n" not in decision.reason
