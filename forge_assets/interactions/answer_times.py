"""How long an answer may take: learned for each step from the slowest that were seen."""

from collections import deque
from collections.abc import Mapping

from resources.interaction_store import SlowAnswers

UNKNOWN_SECONDS = 3600.0
"""For a step of which too little has been seen."""
SHORTEST_SECONDS = 300.0
"""Room for a model to load while its first interactions are claimed."""
TIMES_P99 = 10.0
"""Answers are slower when a machine has more to do; one this much slower does not come."""
_ENOUGH = 20
_REMEMBERED = 1000


class AnswerTimes:
    """The timeout of each step, from earlier runs until this one has seen enough itself."""

    def __init__(self, earlier: Mapping[str, SlowAnswers]) -> None:
        self._earlier = dict(earlier)
        self._seen: dict[str, deque[float]] = {}

    def learn(self, step: str, seconds: float) -> None:
        self._seen.setdefault(step, deque(maxlen=_REMEMBERED)).append(seconds)

    def timeout(self, step: str) -> float:
        """Seconds after which a claim of the step is no longer held on to."""
        slow = self._slowest(step)
        return UNKNOWN_SECONDS if slow is None else max(SHORTEST_SECONDS, TIMES_P99 * slow)

    def _slowest(self, step: str) -> float | None:
        """The p99, of earlier runs and of this one the slower."""
        known = []
        earlier = self._earlier.get(step)
        if earlier is not None and earlier.seen >= _ENOUGH:
            known.append(earlier.p99)
        seen = self._seen.get(step, ())
        if len(seen) >= _ENOUGH:
            known.append(sorted(seen)[int(0.99 * (len(seen) - 1))])
        return max(known, default=None)
