from collections.abc import Callable

import pytest

from forge_assets.launches.submit import OutcomeUnknown, Pace, once
from resources.cloud.errors import CloudError, Denied, Throttled, TimedOut, Unavailable


class World:
    """Fails as told, then makes one; ``applied``: a failing request has its effect."""

    def __init__(self, failures: list[CloudError], applied: bool = False) -> None:
        self.failures, self.applied = failures, applied
        self.made: list[int] = []
        self.sent = 0
        self.waits: list[float] = []

    def send(self) -> int:
        self.sent += 1
        if self.failures:
            error = self.failures.pop(0)
            if self.applied:
                self.made.append(self.sent)
            raise error
        self.made.append(self.sent)
        return self.sent

    def look(self) -> int | None:
        return self.made[0] if self.made else None

    def once(self, look: Callable[[], int | None] | None = None) -> int:
        pace = Pace(self.waits.append, lambda _: None)
        return once(self.send, look or self.look, "the create", pace)


@pytest.mark.parametrize(
    ("error", "pause"),
    [(Unavailable("503"), 2.0), (TimedOut("late"), 20.0), (Throttled("429"), 2.0)],
)
def test_an_answer_that_tells_nothing_is_looked_up(error: CloudError, pause: float) -> None:
    applied = World([error], applied=True)
    assert (applied.once(), applied.sent, applied.waits) == (1, 1, [])
    lost = World([error])
    assert (lost.once(), lost.sent, lost.waits) == (2, 2, [pause])


def test_the_pause_is_the_one_that_was_asked_for_within_reason() -> None:
    polite = World([Throttled("429", retry_after=7)])
    polite.once()
    assert polite.waits == [7]
    long = World([Throttled("429", retry_after=900)])
    long.once()
    assert long.waits == [30]


def test_it_gives_up_after_three_attempts() -> None:
    world = World([Unavailable(f"503 {number}") for number in range(5)])
    with pytest.raises(OutcomeUnknown, match="3 times, and nothing is seen of it: 503 2"):
        world.once()
    assert (world.sent, world.made) == (3, [])


def test_a_refusal_is_not_repeated() -> None:
    world = World([Denied("403")])
    with pytest.raises(Denied):
        world.once()
    assert (world.sent, world.waits) == (1, [])


def test_a_look_that_fails_ends_it() -> None:
    world = World([Unavailable("503")], applied=True)

    def look() -> int | None:
        raise Denied("may not list")

    with pytest.raises(OutcomeUnknown, match=r"503.*cannot be looked up: may not list"):
        world.once(look)
    assert world.sent == 1
