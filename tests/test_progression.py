"""Which stage is next: pure, by counts."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from forge_assets.config import Thresholds
from forge_assets.progression import Next, Rest, next_stage
from resources.stage_counts import StageCounts

VERSIONS = {"draft": "v1", "polish": "v1"}
LIMITS = Thresholds(per_minute=1)
RANGES = [("canary-10", 0, 10), ("ramp-50", 10, 60), ("batch-0001", 60, 65), ("batch-0002", 65, 70)]


def passed(first: int, end: int, key: str, subjects: int | None = None) -> StageCounts:
    number = end - first if subjects is None else subjects
    return StageCounts(
        key, first, end, subjects=number, steps=2, completed=2 * number, working_seconds=1.0,
        worked=2 * number, last_commit=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip


def untouched(first: int, end: int, key: str, subjects: int | None = None) -> StageCounts:
    number = end - first if subjects is None else subjects
    return StageCounts(key, first, end, subjects=number, steps=2, missing=2 * number)


def stages(*made: StageCounts) -> list[StageCounts]:
    """Those, and the rest empty."""
    rest = [StageCounts(key, first, end, steps=2) for key, first, end in RANGES[len(made) :]]
    return [*made, *rest]


CANARY, RAMP = passed(0, 10, "canary-10"), passed(10, 60, "ramp-50")


def decide(*made: StageCounts, versions: dict[str, str] = VERSIONS) -> Next | Rest:
    return next_stage("review", versions, stages(*made), LIMITS)


def asked(*made: StageCounts, **options: Any) -> Next:
    found = decide(*made, **options)
    assert isinstance(found, Next), found
    return found


def rests(*made: StageCounts) -> str:
    found = decide(*made)
    assert isinstance(found, Rest), found
    return found.reason


def test_the_stage_after_one_that_passed_is_next() -> None:
    found = asked(CANARY, untouched(10, 60, "ramp-50"))
    assert found.stage == "ramp-50"
    assert found.reason == "canary-10 has passed; ramp-50: 100 missing of 100 interactions"


def test_batches_follow_the_named_stages_until_the_subjects_are_done() -> None:
    assert asked(CANARY, RAMP, untouched(60, 65, "batch-0001", 3)).stage == "batch-0001"
    partly = passed(60, 65, "batch-0001", 3)
    assert rests(CANARY, RAMP, partly) == "review: all subjects are done, batch-0002 is empty"


def test_new_subjects_lead_to_the_next_batch_or_to_the_partly_filled_one_again() -> None:
    whole = passed(60, 65, "batch-0001")
    assert asked(CANARY, RAMP, whole, untouched(65, 70, "batch-0002", 1)).stage == "batch-0002"
    grown = replace(passed(60, 65, "batch-0001", 3), subjects=5, missing=4)
    first = asked(CANARY, RAMP, untouched(60, 65, "batch-0001", 3))
    again = asked(CANARY, RAMP, grown)
    assert again.stage == "batch-0001"
    assert again.run_key != first.run_key


def test_nothing_follows_a_stage_that_failed() -> None:
    bad = replace(CANARY, completed=10, rejected=10)
    assert rests(bad, untouched(10, 60, "ramp-50")).startswith(
        "review: canary-10 failed: rejection_rate 50.0 % (10 of 20)"
    )
    bad = replace(RAMP, completed=50, failed=50)
    assert "ramp-50 failed" in rests(CANARY, bad)


def test_the_first_stage_is_for_a_person_to_begin() -> None:
    """Also after an edit, which makes everything stale."""
    begin = "review: canary-10 is the first stage; begin it yourself"
    assert rests(untouched(0, 10, "canary-10")) == begin
    stale = replace(untouched(0, 10, "canary-10"), stale=20)
    assert rests(stale, replace(RAMP, completed=0, missing=100, stale=100)) == begin
    cut_short = replace(CANARY, completed=6, pending=14)
    assert rests(cut_short) == begin


def test_the_first_stage_that_was_done_and_grew_is_asked_for_again() -> None:
    grown = replace(passed(0, 10, "canary-10", 7), subjects=10, missing=6)
    assert asked(grown).reason == "it has new subjects; canary-10: 6 missing of 20 interactions"


def test_without_subjects_there_is_nothing() -> None:
    assert rests() == "review: there are no subjects yet, canary-10 is empty"


def test_when_every_stage_has_passed_it_says_so() -> None:
    made = [passed(first, end, key) for key, first, end in RANGES]
    assert rests(*made) == "review: every stage has passed"


def test_a_later_stage_that_somebody_retries_goes_on() -> None:
    retried = replace(RAMP, completed=90, pending=10)
    assert asked(CANARY, retried).stage == "ramp-50"


UNTOUCHED = untouched(10, 60, "ramp-50")
LATER = datetime(2026, 1, 2, tzinfo=UTC)


def test_a_run_that_changed_nothing_is_not_asked_for_again() -> None:
    """It was refused, or died at once: its run key is the same, and Dagster knows it."""
    first = asked(CANARY, UNTOUCHED)
    assert asked(CANARY, UNTOUCHED).run_key == first.run_key
    # What it planned is as much to do as what was missing.
    planned = replace(UNTOUCHED, missing=0, pending=100)
    assert asked(CANARY, planned).run_key == first.run_key
    claimed = replace(UNTOUCHED, missing=0, pending=90, running=10)
    assert asked(CANARY, claimed).run_key == first.run_key


@pytest.mark.parametrize(
    "changed",
    [
        (CANARY, replace(UNTOUCHED, missing=60, completed=40, last_commit=LATER)),
        (CANARY, replace(RAMP, completed=90, pending=10)),
        (CANARY, replace(UNTOUCHED, subjects=49, missing=98)),
        (replace(CANARY, last_commit=LATER), UNTOUCHED),
        (replace(CANARY, completed=19, rejected=1), UNTOUCHED),
    ],
    ids=["progress", "a retry", "subjects", "the stage before ran again", "and came out otherwise"],
)
def test_a_change_makes_another_run_key(changed: tuple[StageCounts, ...]) -> None:
    assert asked(*changed).run_key != asked(CANARY, UNTOUCHED).run_key


def test_an_edit_makes_another_run_key_and_workflows_have_their_own() -> None:
    first = asked(CANARY, UNTOUCHED)
    edited = asked(CANARY, UNTOUCHED, versions={**VERSIONS, "draft": "v2"})
    assert edited.run_key != first.run_key
    other = next_stage("other", VERSIONS, stages(CANARY, UNTOUCHED), LIMITS)
    assert isinstance(other, Next)
    assert other.run_key != first.run_key
    assert first.run_key.startswith("review/ramp-50/")
