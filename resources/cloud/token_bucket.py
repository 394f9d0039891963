"""A token bucket: how many requests may go out now, and how long to wait for the next one."""

import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from resources.cloud.errors import Throttled

# What a 429 without a hint costs, and the most that a hint may cost.
_PAUSE_SECONDS = 5.0
_LONGEST_PAUSE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Bucket:
    """``tokens`` are in it at ``at``, in seconds of the caller's clock; none before."""

    per_minute: float
    burst: float
    tokens: float
    at: float


def full(per_minute: float, burst: float, now: float) -> Bucket:
    return Bucket(per_minute, burst, burst, now)


def take(bucket: Bucket, now: float) -> tuple[float, Bucket]:
    """Seconds to wait, 0.0 when one token was taken, and the bucket afterwards."""
    if now < bucket.at:
        return bucket.at - now, bucket
    gained = (now - bucket.at) * bucket.per_minute / 60
    tokens = min(bucket.burst, bucket.tokens + gained)
    if tokens >= 1:
        return 0.0, replace(bucket, tokens=tokens - 1, at=now)
    return (1 - tokens) * 60 / bucket.per_minute, replace(bucket, tokens=tokens, at=now)


def empty_until(bucket: Bucket, until: float) -> Bucket:
    """Nothing more before ``until``, then one request: the API asked for a pause."""
    return replace(bucket, tokens=1.0, at=max(until, bucket.at))


class Limiter:
    """A bucket for every key. Safe to share between threads."""

    def __init__(
        self, per_minute: float, burst: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_minute = per_minute
        self._burst = burst
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[Hashable, Bucket] = {}

    @contextmanager
    def request(self, key: Hashable, refusal: str) -> Iterator[None]:
        """Around one request. Throttled, beginning with ``refusal``, when it may not go out yet.

        A Throttled from within stops the requests of ``key`` for as long as the API asked for.
        """
        with self._lock:
            now = self._clock()
            bucket = self._buckets.get(key) or full(self._per_minute, self._burst, now)
            wait, self._buckets[key] = take(bucket, now)
        if wait:
            said = f"{refusal} for {wait:.1f} s: our own limit, or the API asked for a pause"
            raise Throttled(said, retry_after=wait)
        try:
            yield
        except Throttled as told:
            pause = _PAUSE_SECONDS if told.retry_after is None else told.retry_after
            until = self._clock() + min(pause, _LONGEST_PAUSE_SECONDS)
            with self._lock:
                self._buckets[key] = empty_until(self._buckets[key], until)
            raise
