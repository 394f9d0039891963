"""The monitor's tables for a terminal."""

from datetime import datetime

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
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

_WRAPPED = ("queue", "image", "region", "display_name", "name", "created", "finished", "note")
"""On a narrow terminal; what names a row, its state and its durations stay on one line."""


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
        parts.append(_table(table, now))
    else:
        parts.append(Text(f"  {nothing_line(table)}", style="dim"))
    parts += [Text(f"  ! {line}", style="yellow") for line in region_lines(table, now)]
    for row in table.rows:
        # A log is its writer's text, and none of it is markup.
        parts += [_error_line(visible(line)) for line in error_lines(row, with_logs)]
    return parts


def _table(table: Table, now: datetime) -> RichTable:
    shown = RichTable(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for column in table.columns:
        shown.add_column(column.title, no_wrap=column.name not in _WRAPPED, overflow="fold")
    shown.add_column(READ, overflow="fold")
    for row in table.rows:
        fresh = Text(freshness(row.region, now), style="" if row.region.state == "ok" else "yellow")
        shown.add_row(*(_cell(row, column, now) for column in table.columns), fresh)
    return shown


def _cell(row: Row, column: Column, now: datetime) -> Text:
    seconds = row.seconds(column.name, now)
    style = colour(seconds) if seconds else ""
    if row.error and column.name in ("status", "state"):
        style = "red"
    return Text(cell_text(row, column, now), style=style)


def _error_line(line: str) -> Text:
    return Text(line, style="red" if line.startswith("  ERROR: ") else "")
