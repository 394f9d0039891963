"""Cells as a person reads them."""

from collections.abc import Iterator
from datetime import datetime
from typing import Literal

from forge_assets.launches.monitor.table import Column, RegionState, Row, Span, Table
from resources.plain_text import sentence

NOTHING = "—"
_HOUR = 3600

Colour = Literal["green", "", "yellow", "red"]


def duration(seconds: float | None) -> str:
    """``1h 2m 3s``."""
    whole = int(seconds or 0)
    if whole <= 0:
        return NOTHING
    hours, minutes = divmod(whole // 60, 60)
    parts = [f"{hours}h"] * (hours > 0) + [f"{minutes}m"] * (whole >= 60) + [f"{whole % 60}s"]
    return " ".join(parts)


def colour(seconds: float) -> Colour:
    """Of a running time: what runs for long may be stuck."""
    if seconds < 1 * _HOUR:
        return "green"
    if seconds <= 4 * _HOUR:
        return ""
    return "yellow" if seconds <= 8 * _HOUR else "red"


def local_time(at: datetime) -> str:
    """``Nov 16, 22:21:48`` where the reader is."""
    return at.astimezone().strftime("%b %d, %H:%M:%S")


def cell_text(row: Row, column: Column, now: datetime) -> str:
    """On one line, cut to the column's length."""
    match row.cells[column.name]:
        case None | "":
            return NOTHING
        case Span():
            return duration(row.seconds(column.name, now))
        case datetime() as at:
            return local_time(at)
        case int() as number:
            return str(number) if number else NOTHING
        case str() as text:
            return _cut(sentence(text), column.longest)
        case values:
            return _cut(sentence(", ".join(values)), column.longest)


def freshness(region: RegionState, now: datetime) -> str:
    """A row's last cell: its region's state and age."""
    age = region.age(now)
    return region.state if age is None else f"{region.state}, {age:.0f}s"


def region_lines(table: Table, now: datetime) -> list[str]:
    """One line for the regions that fail alike and for the same reason."""
    alike: dict[tuple[str, str, str], list[str]] = {}
    for region in table.unread:
        age = region.age(now)
        rows = "never read" if age is None else f"rows of {duration(age)} ago"
        if not region.stale and age is not None:
            rows = "some rows"
        alike.setdefault((region.state, rows, region.said), []).append(region.region)
    return [
        f"{state}: {', '.join(names)}: {rows}: {sentence(said)}"
        for (state, rows, said), names in alike.items()
    ]


def nothing_line(table: Table) -> str:
    """In place of rows; what could not be read is not nothing."""
    if table.note:
        return sentence(table.note)
    return "none" if table.complete else "none in what was read"


def error_lines(row: Row, with_log: bool) -> Iterator[str]:
    """Why a row failed, with the log around it; of one that did not, nothing."""
    if not row.error:
        return
    yield f"{row.name}  {row.region.region}"
    yield f"  ERROR: {sentence(row.error)}"
    if row.advice:
        yield f"  advice: {sentence(row.advice)}"
    if with_log and row.log:
        yield f"  log, {len(row.log)} lines:"
        for block in row.log:
            yield from (f"    {line}" for line in block.splitlines() or [""])
    if row.log_note:
        yield f"  log: {sentence(row.log_note)}"


def heading(table: Table) -> str:
    """The title with how many rows are shown of how many."""
    shown, found = len(table.rows), f"{table.found} or more" if table.more else str(table.found)
    if shown < table.found:
        return f"{table.title} ({shown} of {found})"
    return f"{table.title} ({found})" if table.more else table.title


def _cut(text: str, longest: int) -> str:
    return text if not longest or len(text) <= longest else f"{text[: longest - 1]}…"
