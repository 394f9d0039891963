"""The monitor's tables for a terminal."""

from dataclasses import dataclass
from datetime import datetime

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table as RichTable
from rich.text import Text

from forge_assets.cli.monitor_text import READ
from forge_assets.launches.monitor.shown import (
    cell_text,
    colour,
    error_lines,
    freshness,
    heading,
    local_time,
    nothing_line,
    region_lines,
)
from forge_assets.launches.monitor.table import Column, Row, Snapshot, Table
from resources.plain_text import visible

NARROW = 110
"""Columns of a terminal, below which a table leaves out what stands elsewhere or matters least."""
_LEFT_OUT = ("created", "finished", "note")


def rendered(snapshot: Snapshot, now: datetime, with_logs: bool) -> RenderableType:
    """What was not read stands first: a screen may be too short for all tables."""
    parts: list[RenderableType] = [Text(f"as of {local_time(snapshot.as_of)}", style="dim")]
    if not snapshot.complete:
        parts.append(Text(visible(snapshot.unread_sentence()), style="yellow"))
    for table in snapshot.tables:
        parts += _parts(table, now, with_logs)
    return Group(*parts)


def _parts(table: Table, now: datetime, with_logs: bool) -> list[RenderableType]:
    parts: list[RenderableType] = [Text(f"\n{heading(table)}", style="bold")]
    if table.rows:
        parts.append(_ByWidth(table, now))
    else:
        parts.append(Text(f"  {nothing_line(table)}", style="dim"))
    parts += [Text(f"  ! {line}", style="yellow") for line in region_lines(table, now)]
    for row in table.rows:
        # A log is its writer's text, and none of it is markup.
        parts += [_error_line(visible(line)) for line in error_lines(row, with_logs)]
    return parts


@dataclass(frozen=True, slots=True)
class _ByWidth:
    """A table as wide as the terminal is when it is drawn."""

    table: Table
    now: datetime

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield _table(self.table, self.now, options.max_width)


def _table(table: Table, now: datetime, width: int) -> RichTable:
    columns = [
        column for column in table.columns if width >= NARROW or column.name not in _LEFT_OUT
    ]
    shown = RichTable(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        wraps = column.name == "note"
        shown.add_column(column.title, no_wrap=not wraps, overflow="fold" if wraps else "ellipsis")
    shown.add_column(READ, no_wrap=True, overflow="ellipsis")
    for row in table.rows:
        fresh = Text(freshness(row.region, now), style="" if row.region.state == "ok" else "yellow")
        shown.add_row(*(_cell(row, column, now) for column in columns), fresh)
    return shown


def _cell(row: Row, column: Column, now: datetime) -> Text:
    seconds = row.seconds(column.name, now)
    style = colour(seconds) if seconds else ""
    if row.error and column.name in ("status", "state"):
        style = "red"
    return Text(cell_text(row, column, now), style=style)


def _error_line(line: str) -> Text:
    return Text(line, style="red" if line.startswith("  ERROR: ") else "")
