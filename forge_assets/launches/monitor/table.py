"""A table of the monitor as data: cells, rows, and how well each region behind it was read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from resources.cloud.regions import State


@dataclass(frozen=True, slots=True)
class Span:
    """A duration that goes on as long as ``ended`` is None; of nothing before it began."""

    began: datetime | None
    ended: datetime | None

    def seconds(self, now: datetime) -> float:
        if self.began is None:
            return 0.0
        return max(0.0, ((self.ended or now) - self.began).total_seconds())


Cell = str | int | datetime | Span | Sequence[str] | None


@dataclass(frozen=True, slots=True)
class Column:
    """``name``: of the cell; ``longest``: characters shown on a terminal, 0 for all."""

    name: str
    title: str
    longest: int = 0


@dataclass(frozen=True, slots=True)
class RegionState:
    """How a region was read. ``as_of``: when its rows were, None for never; ``said``: one sentence,
    "" when ok. ``stale``: this time it gave none, and those shown are the last ones."""

    region: str
    state: State
    as_of: datetime | None
    said: str = ""
    stale: bool = False

    def age(self, now: datetime) -> float | None:
        """Seconds since the rows were read."""
        return None if self.as_of is None else max(0.0, (now - self.as_of).total_seconds())

    def as_json(self, now: datetime) -> dict[str, Any]:
        age = _rounded(self.age(now))
        return {"region": self.region, "state": self.state, "age": age, "said": self.said}


@dataclass(frozen=True, slots=True)
class Row:
    """``cells`` by column, and more that only JSON has. ``error``: why it failed, "" for what did
    not; ``log``: the lines around it; ``log_note``: how much of the log was read."""

    name: str
    cells: Mapping[str, Cell]
    region: RegionState
    error: str = ""
    advice: str = ""
    log: Sequence[str] = ()
    log_note: str = ""

    def seconds(self, column: str, now: datetime) -> float | None:
        """Of a duration; what was last seen a while ago has not been seen to go on."""
        cell = self.cells[column]
        if not isinstance(cell, Span):
            return None
        return cell.seconds((self.region.as_of or now) if self.region.stale else now)

    def as_json(self, now: datetime) -> dict[str, Any]:
        cells = {name: self._plain(name, now) for name in self.cells}
        error = {"error": self.error, "advice": self.advice}
        log = {"error_log": list(self.log), "error_log_note": self.log_note}
        age = _rounded(self.region.age(now))
        return {**cells, **error, **log, "region_state": self.region.state, "age": age}

    def _plain(self, name: str, now: datetime) -> Any:
        match self.cells[name]:
            case Span():
                return _rounded(self.seconds(name, now))
            case datetime() as at:
                return at.isoformat()
            case str() | int() | None as value:
                return value
            case values:
                return list(values)


@dataclass(frozen=True, slots=True)
class Table:
    """``found``: how many rows there are, shown or not; ``more``: perhaps more than these, since no more
    were asked for. ``note``: in place of what is not set up."""

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    regions: Sequence[RegionState]
    found: int
    note: str = ""
    more: bool = False

    @property
    def unread(self) -> Sequence[RegionState]:
        """The regions whose rows, or some of them, are missing or old."""
        return [region for region in self.regions if region.state != "ok"]

    @property
    def complete(self) -> bool:
        return not self.unread

    def as_json(self, now: datetime) -> dict[str, Any]:
        return {
            "rows": [row.as_json(now) for row in self.rows],
            "regions": [region.as_json(now) for region in self.regions],
            "complete": self.complete,
            "found": self.found,
            "found_more": self.more,
            "note": self.note,
        }


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The chosen tables as they were at ``as_of``."""

    as_of: datetime
    tables: Sequence[Table]

    @property
    def complete(self) -> bool:
        return all(table.complete for table in self.tables)

    def as_json(self, now: datetime) -> dict[str, Any]:
        tables = {table.name: table.as_json(now) for table in self.tables}
        return {"as_of": self.as_of.isoformat(), "tables": tables, "complete": self.complete}

    def unread_sentence(self) -> str:
        """Which regions of which tables were not read whole; "" when all were."""
        tables: dict[tuple[str, str], list[str]] = {}
        for table in self.tables:
            for region in table.unread:
                tables.setdefault((region.region, region.state), []).append(table.name)
        told = [
            f"{region} {state} ({', '.join(names)})" for (region, state), names in tables.items()
        ]
        return f"not read whole: {'; '.join(told)}" if told else ""


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
