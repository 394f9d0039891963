"""How many requests a server gets at once: found by measuring. Pure: no I/O, the clock is given."""

import time
from collections.abc import Callable

_GROWN = 1.1
"""More requests at once are worth it when the server does this much more work a second."""
_CONTENT_ROUNDS = 8
"""Rounds at the size that was found best, before a larger one is tried again."""


class ConcurrencyLimit:
    """Climbs while the measured throughput climbs, and falls when the server is overloaded.

    It goes in rounds: as many finished requests as may run at once. The size doubles until a round
    is no faster than the one before or the server complains; from then on it grows by a quarter.
    Answers differ in length, so a round that seems no faster is measured for twice as long.
    """

    def __init__(
        self, ceiling: int, *, start: int = 4, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ceiling = ceiling
        self._clock = clock
        self._value = min(start, ceiling)
        self._doubling = True
        self._before: tuple[int, float] | None = None
        """Size and work a second of the round that the current size has to beat."""
        self._content = 0
        self._shrunk_at = float("-inf")
        self.begin()

    @property
    def value(self) -> int:
        """Requests that may run now, from 1 to the ceiling."""
        return self._value

    def begin(self) -> None:
        """Start a round: what was measured while there was too little to do does not count."""
        self._round_began = self._clock()
        self._finished = 0
        self._work = 0
        self._doubted = False

    def finished(self, work: int) -> None:
        """A request has ended while more were waiting; ``work`` is what it made, such as tokens."""
        self._finished += 1
        self._work += work
        seconds = self._clock() - self._round_began
        if self._finished >= self._value * (1 + self._doubted) and seconds > 0:
            self._judge(self._work / seconds)

    def overloaded(self, sent_at: float) -> None:
        """The server refused, or did not answer in time, a request sent at ``sent_at`` (the clock's).

        Halves the size; what was sent before the last halving is no news.
        """
        if sent_at < self._shrunk_at:
            return
        self._shrunk_at = self._clock()
        self._value = max(1, self._value // 2)
        self._doubling = False
        self._before = None
        self._content = _CONTENT_ROUNDS // 2
        self.begin()

    def _judge(self, rate: float) -> None:
        if self._before is not None and rate < _GROWN * self._before[1]:
            if not self._doubted:
                self._doubted = True
                return
            self._value, _ = self._before
            self._doubling = False
            self._before = None
            self._content = _CONTENT_ROUNDS
        elif self._content:
            self._content -= 1
        elif self._value < self._ceiling:
            self._before = (self._value, rate)
            step = self._value if self._doubling else max(1, self._value // 4)
            self._value = min(self._ceiling, self._value + step)
        self.begin()
