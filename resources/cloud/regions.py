"""The same question to every region at once, under one deadline; each answer says how good it is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Generic, Literal, TypeVar

from resources.cloud.ask_all import ask_all
from resources.cloud.errors import CloudError, Denied, Throttled, TimedOut
from resources.cloud.listing import Listing
from resources.errors import ConfigurationError

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


@dataclass(frozen=True)
class RegionRead(Generic[Row]):
    """``as_of``: when the rows were read, None for never; ``said``: one sentence, "" when ok."""

    region: str
    state: State
    rows: tuple[Row, ...]
    as_of: datetime | None
    said: str = ""


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
    questions = {region: partial(_answered, region, read, now) for region in regions}
    found = ask_all(questions, seconds)
    return [_told(region, found[region]) for region in regions]


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
    now: Callable[[], datetime],
    seconds: float,
) -> RegionRead[T]:
    listing = read(region, seconds)
    if listing.missing is None:
        return RegionRead(region, "ok", listing.rows, now())
    said = f"only the first {len(listing.rows)} rows: {listing.missing}"
    return RegionRead(region, "partial", listing.rows, now(), said)


def _told(region: str, answer: RegionRead[T] | CloudError | ConfigurationError) -> RegionRead[T]:
    if isinstance(answer, RegionRead):
        return answer
    if isinstance(answer, CloudError):
        return RegionRead(region, _state(answer), (), None, str(answer))
    raise answer


def _state(error: CloudError) -> State:
    if isinstance(error, Denied):
        return "denied"
    if isinstance(error, Throttled):
        return "throttled"
    return "timeout" if isinstance(error, TimedOut) else "partial"
