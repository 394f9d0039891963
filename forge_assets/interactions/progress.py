"""Progress lines with the time left, from the rate measured in this run."""

import time
from collections.abc import Callable

from forge_assets.interactions.clerk import Tally
from resources.interaction_store import OpenWork

_EVERY_SECONDS = 10.0


class Progress:
    """Says every few seconds how far the run is."""

    def __init__(
        self,
        stage: str,
        open_at_start: int,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stage = stage
        self._open_at_start = open_at_start
        self._say = say
        self._clock = clock
        self._started = clock()
        self._next = self._started + _EVERY_SECONDS

    def __call__(self, model: str, tally: Tally) -> None:
        if self._clock() >= self._next:
            self._next = self._clock() + _EVERY_SECONDS
            self._say(self.line(model, tally))

    def waiting(self, work: OpenWork) -> None:
        """``ramp-50: waits for 3 retries, the next in 12 s``, or for what others work on."""
        if work.ready or work.running_here or self._clock() < self._next:
            # Another worker of this run is at it.
            return
        self._next = self._clock() + _EVERY_SECONDS
        waits = []
        if work.waiting_retry:
            seconds = max(0.0, work.retry_in_seconds or 0.0)
            waits.append(f"for {work.waiting_retry} retries, the next in {seconds:.0f} s")
        if work.running_elsewhere:
            seconds = max(0.0, work.lease_in_seconds or 0.0)
            waits.append(
                f"for {work.running_elsewhere} interactions of other workers,"
                f" whose first lease ends in {seconds:.0f} s"
            )
        self._say(f"{self._stage}: waits {', and '.join(waits)}")

    def line(self, model: str, tally: Tally) -> str:
        """``ramp-50: 80 of 200 interactions ended (40 %), 143 a minute, 0:50 left at most, model m``"""
        elapsed = self._clock() - self._started
        ended = tally.finished + tally.skipped
        share = ended / self._open_at_start if self._open_at_start else 1.0
        text = (
            f"{self._stage}: {ended} of {self._open_at_start} interactions ended ({share:.0%}),"
            f" {60 * tally.finished / elapsed if elapsed else 0:.0f} generated a minute"
        )
        if 0 < ended < self._open_at_start:
            # Branches not taken end without work, so this is an upper bound.
            left = (self._open_at_start - ended) * elapsed / ended
            text += f", {int(left // 60)}:{int(left % 60):02d} left at most"
        return f"{text}, model {model}"
