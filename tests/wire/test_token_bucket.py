"""The token bucket, on a clock of numbers."""

import pytest

from resources.cloud.token_bucket import empty_until, full, take


def test_a_burst_then_one_every_two_seconds() -> None:
    bucket = full(per_minute=30, burst=3, now=100)
    for _ in range(3):
        wait, bucket = take(bucket, 100)
        assert wait == 0
    wait, bucket = take(bucket, 100.5)
    assert wait == pytest.approx(1.5)
    wait, bucket = take(bucket, 102)
    assert wait == 0
    wait, bucket = take(bucket, 102)
    assert wait == pytest.approx(2)


def test_it_never_holds_more_than_the_burst() -> None:
    bucket = full(per_minute=30, burst=2, now=0)
    waits = []
    for _ in range(3):
        wait, bucket = take(bucket, 3600)
        waits.append(wait)
    assert waits == [0, 0, pytest.approx(2)]


def test_a_pause_is_kept_and_ends_with_one_request() -> None:
    bucket = empty_until(full(per_minute=60, burst=10, now=0), 30)
    wait, bucket = take(bucket, 5)
    assert wait == 25
    wait, bucket = take(bucket, 30)
    assert wait == 0
    wait, bucket = take(bucket, 30)
    assert wait == pytest.approx(1)


def test_a_shorter_pause_does_not_end_a_longer_one() -> None:
    bucket = empty_until(empty_until(full(60, 10, 0), 30), 10)
    assert take(bucket, 10)[0] == 20


def test_a_clock_that_goes_back_gains_nothing() -> None:
    bucket = full(per_minute=60, burst=1, now=100)
    _, bucket = take(bucket, 100)
    wait, bucket = take(bucket, 90)
    assert wait == 10
