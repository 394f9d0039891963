"""The same question to every region at once, under one deadline; each answer says how good it is."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Generic, Literal, TypeVar

from resources.cloud.errors import CloudError, Denied, Throttled, TimedOut
from resources.cloud.listing import Listing

REGIONS = (
    "us-central1",
    "us-east1",
    "us-east4",
    "us-east5",
    "us-west1",
    "us-west2",
    "us-west3",
    "us-west4",
    "northamerica-northeast1",
    "europe-west1",
    "europe-west2",
    "europe-west3",
    "europe-west4",
    "europe-west9",
    "asia-northeast1",
    "asia-southeast1",
    "australia-southeast1",
    "southamerica-east1",
)

State = Literal["ok", "partial", "denied", "timeout", "throttled"]
"""``partial``: rows are missing, perhaps all of them; the sentence says why."""

Row = TypeVar("Row", covariant=True)
T = TypeVar("T")

# A call ends by its own deadline this much before the fan-out's, so that its own words are heard.
_GRACE_SECONDS = 0.1


@dataclass(frozen=True)
class RegionRead(Generic[Row]):
    """``as_of``: when the rows were read, None for never; ``said``: one sentence, "" when ok."""

    region: str
    state: State
    rows: tuple[Row, ...]
    as_of: datetime | None
    said: str = ""

    def age(self, now: datetime) -> float | None:
        """Seconds since the rows were read."""
        return None if self.as_of is None else (now - self.as_of).total_seconds()


def utc_now() -> datetime:
    return datetime.now(UTC)


def read_regions(
    read: Callable[[str, float], Listing[T]],
    regions: Sequence[str],
    seconds: float,
    now: Callable[[], datetime] = utc_now,
) -> list[RegionRead[T]]:
    """``read``: region, seconds left -> its listing. One result a region, in the order given.

    It returns after ``seconds`` at the latest, however long a call hangs. A CloudError becomes the
    region's state; any other exception of ``read`` is raised.
    """
    end = time.monotonic() + seconds
    answers: SimpleQueue[tuple[str, RegionRead[T] | BaseException]] = SimpleQueue()

    def ask(region: str) -> None:
        try:
            left = end - time.monotonic() - _GRACE_SECONDS
            answers.put((region, _answered(region, read, left, now)))
        except BaseException as error:
            answers.put((region, error))

    # Not an executor: at the end of the program it would wait for a thread that hangs.
    for region in regions:
        Thread(target=ask, args=(region,), name=f"ask {region}", daemon=True).start()
    late = f"no answer within {seconds:g} s"
    found = {region: RegionRead[T](region, "timeout", (), None, late) for region in regions}
    for _ in regions:
        try:
            region, answer = answers.get(timeout=max(0.0, end - time.monotonic()))
        except Empty:
            break
        if isinstance(answer, BaseException):
            raise answer
        found[region] = answer
    return [found[region] for region in regions]


def with_last_rows(
    fresh: Sequence[RegionRead[T]], before: Sequence[RegionRead[T]]
) -> list[RegionRead[T]]:
    """A region that gave nothing shows the rows it had, as old as they are, and its new state."""
    last = {read.region: read for read in before}
    return [
        replace(read, rows=last[read.region].rows, as_of=last[read.region].as_of)
        if read.as_of is None and read.region in last
        else read
        for read in fresh
    ]


def _answered(
    region: str,
    read: Callable[[str, float], Listing[T]],
    seconds: float,
    now: Callable[[], datetime],
) -> RegionRead[T]:
    try:
        listing = read(region, seconds)
    except CloudError as error:
        return RegionRead(region, _state(error), (), None, str(error))
    if listing.missing is None:
        return RegionRead(region, "ok", listing.rows, now())
    said = f"only the first {len(listing.rows)} rows: {listing.missing}"
    return RegionRead(region, "partial", listing.rows, now(), said)


def _state(error: CloudError) -> State:
    if isinstance(error, Denied):
        return "denied"
    if isinstance(error, Throttled):
        return "throttled"
    return "timeout" if isinstance(error, TimedOut) else "partial"
