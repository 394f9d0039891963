"""How many requests at once: pure logic over a clock of the test's own."""

from collections.abc import Callable
from itertools import pairwise

import pytest

from resources.gpu.engines.concurrency_limit import ConcurrencyLimit


class Clock:
    """Time that passes when told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def rounds(
    limit: ConcurrencyLimit, clock: Clock, rate: Callable[[int], float], number: int
) -> list[int]:
    """Lets rounds pass at ``rate(size)`` requests a second; the sizes of the rounds."""
    sizes = []
    for _ in range(number):
        size = limit.value
        sizes.append(size)
        for _ in range(size):
            clock.now += 1 / rate(size)
            limit.finished(1)
    return sizes


def test_it_doubles_while_that_is_faster_and_stays_below_the_ceiling() -> None:
    clock = Clock()
    limit = ConcurrencyLimit(50, clock=clock)
    assert rounds(limit, clock, lambda size: size, 7) == [4, 8, 16, 32, 50, 50, 50]


def test_it_goes_back_where_more_at_once_is_no_faster() -> None:
    clock = Clock()
    limit = ConcurrencyLimit(64, clock=clock)
    assert rounds(limit, clock, lambda size: min(size, 10), 6) == [4, 8, 16, 32, 32, 16]


def test_a_server_that_does_one_after_the_other_gets_few() -> None:
    clock = Clock()
    limit = ConcurrencyLimit(64, clock=clock)
    assert max(rounds(limit, clock, lambda size: 3, 60)) == 8
    assert limit.value <= 5


def test_after_a_while_it_tries_a_little_more() -> None:
    clock = Clock()
    limit = ConcurrencyLimit(64, clock=clock)
    assert rounds(limit, clock, lambda size: 3, 4) == [4, 8, 8, 4]
    assert max(rounds(limit, clock, lambda size: size, 40)) > 8


def test_overload_halves_once_for_all_requests_of_that_time() -> None:
    clock = Clock()
    limit = ConcurrencyLimit(64, clock=clock)
    rounds(limit, clock, lambda size: size, 3)
    assert limit.value == 32
    sent, clock.now = clock.now, clock.now + 1
    for _ in range(32):
        limit.overloaded(sent)
    assert limit.value == 16
    clock.now += 1
    limit.overloaded(clock.now)
    assert limit.value == 8


def test_it_never_falls_below_one_and_recovers_by_steps() -> None:
    clock = Clock()
    limit = ConcurrencyLimit(64, clock=clock)
    for _ in range(5):
        clock.now += 1
        limit.overloaded(clock.now)
    assert limit.value == 1
    sizes = rounds(limit, clock, lambda size: size, 40)
    for before, after in pairwise(sizes):
        assert after <= before + max(1, before // 4)
    assert max(sizes) > 8


@pytest.mark.parametrize("ceiling", [1, 2, 4])
def test_a_low_ceiling_is_where_it_starts(ceiling: int) -> None:
    clock = Clock()
    limit = ConcurrencyLimit(ceiling, clock=clock)
    assert set(rounds(limit, clock, lambda size: size, 30)) == {ceiling}


def test_one_slow_round_is_measured_again() -> None:
    clock = Clock()
    limit = ConcurrencyLimit(64, clock=clock)
    rounds(limit, clock, lambda size: size, 1)
    assert rounds(limit, clock, lambda size: 4, 1) == [8]
    assert rounds(limit, clock, lambda size: 16, 3) == [8, 16, 32]


def test_time_without_work_does_not_count() -> None:
    clock = Clock()
    limit = ConcurrencyLimit(64, clock=clock)
    rounds(limit, clock, lambda size: size, 1)
    clock.now += 1000
    limit.begin()
    assert rounds(limit, clock, lambda size: size, 2) == [8, 16]
