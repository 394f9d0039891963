"""Every region of every source asked at once; a region that fails shows the rows it had."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from forge_assets.launches.monitor.table import RegionState
from resources.cloud.listing import Listing
from resources.cloud.regions import RegionRead, read_regions, with_last_rows

T = TypeVar("T")
Ask = Callable[[float], Listing[Any]]
"""Seconds left -> the rows of one region. It raises CloudError."""


@dataclass(frozen=True, slots=True)
class RegionRows(Generic[T]):
    region: RegionState
    rows: Sequence[T]


class LastReads:
    """What each region gave when it last gave something. For one thread at a time."""

    def __init__(self) -> None:
        self._last: dict[str, RegionRead[Any]] = {}

    def read(
        self,
        sources: Mapping[str, Mapping[str, Ask]],
        seconds: float,
        now: Callable[[], datetime],
    ) -> dict[str, list[RegionRows[Any]]]:
        """``sources``: by name, each with its regions. The answers the same way, in that order.

        All of them under one deadline of ``seconds``.
        """
        places = {
            f"{source} {region}": (source, region, ask)
            for source, regions in sources.items()
            for region, ask in regions.items()
        }
        fresh = read_regions(lambda place, left: places[place][2](left), list(places), seconds, now)
        shown = with_last_rows(fresh, list(self._last.values()))
        self._last.update((read.region, read) for read in shown)
        answers: dict[str, list[RegionRows[Any]]] = {source: [] for source in sources}
        for given, read in zip(fresh, shown, strict=True):
            source, region, _ = places[read.region]
            stale = given.as_of is None and read.as_of is not None
            state = RegionState(region, read.state, read.as_of, read.said, stale)
            answers[source].append(RegionRows(state, read.rows))
        return answers


@dataclass(frozen=True, slots=True)
class Picked(Generic[T]):
    """``found``: the rows to show, each with its region; ``count``: how many there are."""

    found: Sequence[tuple[RegionState, T]]
    count: int
    regions: Sequence[RegionState]

    @property
    def rows(self) -> list[T]:
        return [row for _, row in self.found]


def newest(
    reads: Iterable[RegionRows[T]],
    limit: int,
    wanted: Callable[[T], bool],
    age_key: Callable[[T], Any],
) -> Picked[T]:
    """The ``limit`` wanted rows of all regions with the greatest keys, the greatest first."""
    reads = list(reads)
    found = [(read.region, row) for read in reads for row in read.rows if wanted(row)]
    found.sort(key=lambda each: age_key(each[1]), reverse=True)
    return Picked(found[:limit], len(found), [read.region for read in reads])
