"""A token bucket: how many requests may go out now, and how long to wait for the next one."""

from dataclasses import dataclass, replace


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
