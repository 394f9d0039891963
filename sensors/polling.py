"""One look at resources that come and go: what is new by a window, what is pending by its name."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Generic, Protocol, TypeVar

import dagster as dg

from resources.cloud.errors import CloudError, NotFound
from resources.cloud.listing import Listing
from resources.cloud.regions import read_regions
from resources.cloud.resource_name import tail
from resources.cloud.wire_values import region_of
from sensors.cursor import Cursor, Known

OVERLAP = timedelta(minutes=10)
"""Read again: our clock and the API's differ, and what was just made may be listed late."""
FIRST_LOOK = timedelta(hours=1)
LONGEST_LOOK = timedelta(days=8)
GETS = 20
"""Pending resources of a region that one tick asks for by name; the next tick takes the next."""
TICK_SECONDS = 30
LISTING_SHARE = 0.7
"""Of a region's time; what is left is for the pending ones, however long its list is."""
EXPLAINED_AFTER = timedelta(minutes=1)
"""Vertex AI gives the error about a minute after the end, and logs arrive late too."""

FAILURES = frozenset({"FAILED", "EXPIRED", "PARTIALLY_SUCCEEDED"})
"""Ends that somebody has to explain. Who cancelled something knows why."""


class Resource(Protocol):
    """A job or an execution."""

    @property
    def name(self) -> str: ...
    @property
    def region(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def created(self) -> datetime: ...
    @property
    def ended(self) -> datetime | None: ...
    @property
    def is_over(self) -> bool: ...


T = TypeVar("T", bound=Resource)
U = TypeVar("U")


@dataclass(frozen=True)
class Source(Generic[T]):
    """``listed``: region, since, seconds -> those created since; ``one``: by name, within seconds."""

    listed: Callable[[str, datetime, float], Listing[T]]
    one: Callable[[str, float], T]
    is_ours: Callable[[T], bool]


@dataclass(frozen=True)
class Polled(Generic[T]):
    """``seen``: ours that were read, oldest first; ``changed``: names of those in another state than
    before; ``due``: failures whose diagnosis is to be requested now, each once; ``gone``: names that
    the API does not know any more; ``unread``: a sentence for each region that was not read whole.

    ``cursor``: for the next tick. None when no region could be read: the old one stays.
    """

    cursor: Cursor | None
    seen: tuple[T, ...]
    changed: frozenset[str]
    due: tuple[T, ...]
    gone: tuple[str, ...]
    unread: tuple[str, ...]


@dataclass
class Settled(Generic[U]):
    """What a look came to. ``changes`` and ``warnings``: one sentence each; ``observations``: of what
    no launch of the store keeps the books of; ``due``: failures to be diagnosed."""

    changes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    observations: list[dg.AssetObservation] = field(default_factory=list)
    due: list[U] = field(default_factory=list)


@dataclass(frozen=True)
class _Look(Generic[T]):
    """Of one region. ``whole``: the window was read whole; ``said``: what was not read, and why."""

    region: str
    found: tuple[T, ...]
    gone: tuple[str, ...]
    whole: bool
    said: str


def poll(
    source: Source[T],
    cursor: Cursor,
    regions: Iterable[str],
    watched: Iterable[str],
    since: datetime,
    now: datetime,
    seconds: float,
) -> Polled[T]:
    """One tick's look; it ends within ``seconds``, however long a region hangs.

    ``watched``: names that the store waits for, besides the pending ones of ``cursor``. ``since``: for
    a region that was never read.
    """
    pending = _by_region([*_unfinished(cursor), *watched])
    places = tuple(dict.fromkeys((*regions, *pending)))
    windows = {place: _window(cursor, place, since, now) for place in places}

    def look(region: str, left: float) -> Listing[_Look[T]]:
        return _look(source, region, windows[region], pending.get(region, ()), now, left)

    reads = read_regions(look, places, seconds, lambda: now)
    looks = [each for read in reads for each in read.rows]
    seen = _oldest_first(resource for each in looks for resource in each.found)
    gone = tuple(name for each in looks for name in each.gone)
    due = tuple(resource for resource in seen if _is_due(resource, cursor, now))
    changed = frozenset(each.name for each in seen if _is_changed(each, cursor))
    unread = (
        *(f"{read.region} ({read.state}): {read.said}" for read in reads if read.said),
        *(f"{each.region} (partial): {each.said}" for each in looks if each.said),
    )
    whole = {each.region for each in looks if each.whole}
    following = _following(cursor, seen, due, gone, whole, now)
    return Polled(following if looks else None, seen, changed, due, gone, unread)


def _look(
    source: Source[T],
    region: str,
    since: datetime,
    pending: Sequence[str],
    now: datetime,
    seconds: float,
) -> Listing[_Look[T]]:
    end = time.monotonic() + seconds
    listing = source.listed(region, since, seconds * LISTING_SHARE)
    found = {tail(resource.name): resource for resource in listing.rows}
    said = f"only {len(listing.rows)} rows: {listing.missing}" if listing.missing else ""
    gone = []
    for name in _turn([name for name in pending if tail(name) not in found], now):
        try:
            found[tail(name)] = source.one(name, end - time.monotonic())
        except NotFound:
            gone.append(name)
        except CloudError as error:
            said = said or f"not every pending one: {error}"
            break
    ours = tuple(resource for resource in found.values() if source.is_ours(resource))
    return Listing((_Look(region, ours, tuple(gone), listing.missing is None, said),))


def _turn(names: Sequence[str], now: datetime) -> Sequence[str]:
    """GETS of them, the next ones at each tick."""
    if len(names) <= GETS:
        return names
    start = int(now.timestamp() // TICK_SECONDS) * GETS % len(names)
    return [*names[start:], *names[:start]][:GETS]


def _unfinished(cursor: Cursor) -> list[str]:
    return [name for name, known in cursor.known.items() if not (known.is_over and known.asked)]


def _by_region(names: Iterable[str]) -> dict[str, list[str]]:
    """Each resource once; a text that is no resource's name is left out."""
    found: dict[str, list[str]] = {}
    for name in {tail(name): name for name in names}.values():
        try:
            found.setdefault(region_of(name), []).append(name)
        except ValueError:
            continue
    return found


def _window(cursor: Cursor, region: str, since: datetime, now: datetime) -> datetime:
    read = cursor.read_until.get(region)
    start = since if read is None else min(read, now) - OVERLAP
    return max(start, now - LONGEST_LOOK)


def _is_changed(resource: Resource, cursor: Cursor) -> bool:
    before = cursor.known.get(resource.name)
    return before is None or before.state != resource.state


def _is_due(resource: Resource, cursor: Cursor, now: datetime) -> bool:
    if resource.state not in FAILURES:
        return False
    before = cursor.known.get(resource.name)
    if before is not None and before.asked:
        return False
    return resource.ended is None or resource.ended <= now - EXPLAINED_AFTER


def _following(
    cursor: Cursor,
    seen: Sequence[T],
    due: Sequence[T],
    gone: Sequence[str],
    whole: set[str],
    now: datetime,
) -> Cursor:
    read_until = {**cursor.read_until, **dict.fromkeys(sorted(whole), now)}
    absent = {tail(name) for name in gone}
    known = {name: value for name, value in cursor.known.items() if tail(name) not in absent}
    asked = {resource.name for resource in due}
    for resource in seen:
        before = known.get(resource.name)
        needs_none = resource.is_over and resource.state not in FAILURES
        known[resource.name] = Known(
            state=resource.state,
            created=resource.created,
            is_over=resource.is_over,
            asked=needs_none or resource.name in asked or bool(before and before.asked),
        )
    # What is over is kept as long as the windows show it.
    kept = {
        name: value
        for name, value in known.items()
        if not (value.is_over and value.asked)
        or value.created >= _shown_from(name, read_until, now)
    }
    return Cursor(version=1, read_until=read_until, known=kept).within()


def _shown_from(name: str, read_until: dict[str, datetime], now: datetime) -> datetime:
    return min(read_until.get(region_of(name), now), now) - OVERLAP


def _oldest_first(resources: Iterable[T]) -> tuple[T, ...]:
    return tuple(sorted(resources, key=lambda each: (each.created, each.name)))
