import threading
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from forge_assets.launches.confirm import Item, Looks, watch
from resources.cloud.cloud_run import Execution
from resources.cloud.errors import Unavailable
from resources.cloud.vertex import Job

AT = datetime(2026, 11, 22, tzinfo=UTC)
JOB = Job("j", "r", "d", "RUNNING", {}, AT, None, None, 0, "")


def execution(state: str) -> Execution:
    return Execution("e", "r", "job", (), {}, state, "", "", AT, None, None)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


def test_the_job_is_asked_for_every_five_seconds_and_the_runner_four_times_as_often() -> None:
    clock = Clock()
    jobs: list[float] = []
    executions: list[float] = []

    def look(seconds: float) -> Sequence[Job]:
        jobs.append(clock.now)
        return [JOB] if clock.now >= 15 else []

    def run(seconds: float) -> Execution:
        executions.append(clock.now)
        return execution("RUNNING")

    seen = watch(Looks(look, run), clock, clock.wait)
    assert (seen.ended, jobs) == ("job", [0.0, 5.0, 10.0, 15.0])
    assert executions[:6] == [0.0, 1.25, 2.5, 3.75, 5.0, 6.25]


def test_a_hop_that_hangs_does_not_hide_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def hang(seconds: float) -> Execution:
        release.wait(30)
        return execution("RUNNING")

    clock = Clock()
    seen = watch(Looks(lambda _: [JOB], hang), clock, clock.wait)
    release.set()
    assert (seen.ended, clock.now) == ("job", 0.0)


def test_a_dead_runner_counts_only_when_a_look_shows_no_job() -> None:
    clock = Clock()
    answers: list[Sequence[Job] | Exception] = [[], Unavailable("503"), []]

    def look(seconds: float) -> Sequence[Job]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    seen = watch(Looks(look, lambda _: execution("FAILED")), clock, clock.wait)
    assert (seen.ended, clock.now) == ("runner", 1.25)


def test_an_item_that_failed_ends_it() -> None:
    clock = Clock()
    seen = watch(Looks(lambda _: [], None, lambda _: Item("FAILED", None)), clock, clock.wait)
    assert (seen.ended, clock.now) == ("item", 0.0)


def test_time_runs_out_with_what_was_last_known() -> None:
    clock = Clock()

    def item(seconds: float) -> Item:
        if clock.now > 60:
            raise Unavailable("502")
        return Item("LEASED", None)

    seen = watch(Looks(lambda _: [], lambda _: execution("RUNNING"), item), clock, clock.wait)
    assert (seen.ended, clock.now) == ("", 120.0)
    assert seen.item == Item("LEASED", None)
    assert seen.said == {"queue item": "502"}


def test_a_mistake_of_ours_is_not_swallowed() -> None:
    def broken(seconds: float) -> Sequence[Job]:
        raise KeyError("x")

    clock = Clock()
    with pytest.raises(KeyError):
        watch(Looks(broken), clock, clock.wait)
