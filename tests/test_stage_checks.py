"""The checks of a stage on counts, and its verdict."""

from dataclasses import dataclass, replace
from typing import Any

import pytest

from forge_assets.config import Thresholds
from forge_assets.stage_checks import (
    CheckOutcome,
    Verdict,
    check_error_rate,
    check_nothing_lost,
    check_rejection_rate,
    check_stage,
    check_step,
    check_success_rate,
    check_throughput,
    judge_stage,
)
from resources.stage_counts import StageCounts

LIMITS = Thresholds()
GOOD = StageCounts(
    partition="canary-10",
    first=0,
    end=10,
    subjects=10,
    steps=4,
    completed=30,
    rejected=2,
    failed=1,
    skipped=7,
    working_seconds=20.0,
    worked=33,
    finished_subjects=10,
)
NOTHING = StageCounts("canary-10", 0, 10, subjects=10, steps=4, skipped=40, working_seconds=3)


def test_the_arithmetic_of_counts() -> None:
    assert (GOOD.attempted, GOOD.ended) == (33, 40)
    assert GOOD.rejection_rate == pytest.approx(2 / 33)
    assert GOOD.error_rate == pytest.approx(1 / 33)
    assert GOOD.success_rate == pytest.approx(30 / 33)
    assert GOOD.per_minute == pytest.approx(99)
    assert GOOD.subjects_per_minute == pytest.approx(30)
    assert GOOD.seconds_per_interaction == pytest.approx(20 / 33)
    assert GOOD.seconds_per_subject == pytest.approx(2)


def test_zero_denominators_are_unknown_not_zero() -> None:
    empty = StageCounts("x", 0, 0)
    for name in (
        "rejection_rate",
        "error_rate",
        "success_rate",
        "per_minute",
        "subjects_per_minute",
        "seconds_per_interaction",
        "seconds_per_subject",
    ):
        assert getattr(empty, name) is None


def test_all_checks_of_a_good_stage_pass() -> None:
    outcomes = check_stage(GOOD, LIMITS)
    assert [(outcome.name, outcome.blocking) for outcome in outcomes] == [
        ("rejection_rate", True),
        ("error_rate", True),
        ("throughput", True),
        ("nothing_lost", True),
        ("success_rate", False),
    ]
    assert all(outcome.passed for outcome in outcomes)
    assert [outcome.description for outcome in outcomes] == [
        "6.1 % (2 of 33), limit 15 %",
        "3.0 % (1 of 33), limit 5 %",
        "99.0 interactions a minute (33 in 20.0 s of work), at least 80",
        "10 subjects x 4 steps = 40 interactions, 40 ended "
        "(30 completed, 2 rejected, 1 failed, 7 skipped)",
        "90.9 % (30 of 33), target above 85 %",
    ]


def test_the_metadata_has_counts_denominator_rate_and_limit() -> None:
    assert check_rejection_rate(GOOD, LIMITS).metadata == {
        "rejected": 2,
        "attempted": 33,
        "rate": 2 / 33,
        "limit": 0.15,
    }
    assert check_throughput(GOOD, LIMITS).metadata["working_seconds"] == 20.0


def test_a_rate_at_its_limit_does_not_pass() -> None:
    at = replace(GOOD, completed=17, rejected=3, failed=0)
    assert not check_rejection_rate(at, LIMITS).passed
    assert check_rejection_rate(replace(at, completed=18), LIMITS).passed
    at = replace(GOOD, completed=19, rejected=0, failed=1)
    assert not check_error_rate(at, LIMITS).passed
    assert check_error_rate(replace(at, completed=20), LIMITS).passed
    at = replace(GOOD, completed=17, rejected=0, failed=3)
    assert not check_success_rate(at, LIMITS).passed
    assert check_success_rate(replace(at, completed=18), LIMITS).passed


def test_throughput_at_the_minimum_passes() -> None:
    assert check_throughput(replace(GOOD, working_seconds=33 / 80 * 60), LIMITS).passed
    assert not check_throughput(replace(GOOD, working_seconds=33 / 80 * 60 + 1), LIMITS).passed


def test_throughput_counts_what_forge_yaml_says() -> None:
    by_subjects = Thresholds(per_minute_counts="subjects", per_minute=31)
    outcome = check_throughput(GOOD, by_subjects)
    assert not outcome.passed
    assert outcome.description == "30.0 subjects a minute (10 in 20.0 s of work), at least 31"


def test_throughput_that_cannot_be_known_is_not_a_pass() -> None:
    outcome = check_throughput(replace(GOOD, working_seconds=0), Thresholds(per_minute=0))
    assert (outcome.passed, outcome.description) == (False, "no working time was recorded")


@pytest.mark.parametrize("counts", [NOTHING, StageCounts("canary-10", 0, 10)])
def test_zero_of_zero_proves_nothing(counts: StageCounts) -> None:
    for outcome in check_stage(counts, Thresholds(per_minute=0)):
        if outcome.name != "nothing_lost":
            assert (outcome.passed, outcome.description) == (False, "nothing attempted")
    assert not check_nothing_lost(StageCounts("canary-10", 0, 10), LIMITS).passed
    assert judge_stage(NOTHING, LIMITS).verdict is Verdict.FAILED


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"completed": 29, "missing": 1}, "39 ended (29 completed"),
        ({"completed": 29, "missing": 1}, "; 1 missing"),
        ({"completed": 28, "pending": 1, "running": 1}, "; 1 pending, 1 running"),
        ({"stale": 3}, "; 3 stale"),
        ({"completed": 31}, "= 40 interactions, 41 ended"),
        ({"subjects": 11}, "11 subjects x 4 steps = 44 interactions, 40 ended"),
    ],
)
def test_nothing_lost_sees_every_kind_of_loss(change: dict[str, Any], text: str) -> None:
    outcome = check_nothing_lost(replace(GOOD, **change), LIMITS)
    assert not outcome.passed
    assert text in outcome.description


@dataclass(frozen=True)
class StepCounts:
    pending: int = 0
    running: int = 0
    completed: int = 0
    rejected: int = 0
    failed: int = 0
    skipped: int = 0


@pytest.mark.parametrize(
    ("counts", "passed", "description"),
    [
        (StepCounts(completed=9, rejected=1), True, "10.0 % (1 of 10), limit 15 %"),
        (StepCounts(completed=8, rejected=2), False, "20.0 % (2 of 10), limit 15 %"),
        (StepCounts(skipped=10), True, "nothing attempted"),
        (StepCounts(skipped=9, pending=1), False, "nothing attempted"),
        (StepCounts(pending=10), False, "nothing attempted"),
        (StepCounts(), False, "nothing attempted"),
    ],
)
def test_the_checks_of_a_step(counts: StepCounts, passed: bool, description: str) -> None:
    outcome = check_step(counts, LIMITS)[0]
    assert isinstance(outcome, CheckOutcome)
    assert (outcome.passed, outcome.description) == (passed, description)
    assert not outcome.blocking


def test_a_stage_passes_and_says_what_warns() -> None:
    assert judge_stage(GOOD, LIMITS).passed
    assert judge_stage(GOOD, LIMITS).reasons == ()
    strict = judge_stage(GOOD, Thresholds(success_rate=0.95))
    assert strict.passed
    assert strict.reasons == ("success_rate 90.9 % (30 of 33), target above 95 % (a warning)",)


def test_a_stage_fails_with_every_reason() -> None:
    verdict = judge_stage(replace(GOOD, completed=20, rejected=8, failed=5), LIMITS)
    assert verdict.verdict is Verdict.FAILED
    assert verdict.failed_checks == ("rejection_rate", "error_rate")
    assert verdict.reasons == (
        "rejection_rate 24.2 % (8 of 33), limit 15 %",
        "error_rate 15.2 % (5 of 33), limit 5 %",
        "success_rate 60.6 % (20 of 33), target above 85 % (a warning)",
    )


def test_a_stage_with_a_row_too_many_fails() -> None:
    assert judge_stage(replace(GOOD, completed=31), LIMITS).failed_checks == ("nothing_lost",)


@pytest.mark.parametrize("name", ["pending", "running", "missing", "stale"])
def test_a_stage_with_open_work_is_incomplete_however_bad(name: str) -> None:
    change: dict[str, Any] = {name: 2}
    for counts in (GOOD, replace(GOOD, completed=0, rejected=33)):
        verdict = judge_stage(replace(counts, **change), LIMITS)
        assert verdict.verdict is Verdict.INCOMPLETE
        assert verdict.reasons == (f"2 {name} of 40 interactions",)


def test_a_stage_without_subjects_is_empty() -> None:
    verdict = judge_stage(StageCounts("batch-0001", 560, 1060, steps=4), LIMITS)
    assert verdict.verdict is Verdict.EMPTY
    assert not verdict.passed
