"""The monitor's tables as plain text: aligned, without colours."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from forge_assets.launches.monitor.shown import (
    cell_text,
    error_lines,
    freshness,
    heading,
    local_time,
    nothing_line,
    region_lines,
)
from forge_assets.launches.monitor.table import Snapshot, Table

READ = "Read"
"""The title of a row's last cell: its region's state and age."""


def snapshot_lines(snapshot: Snapshot, now: datetime) -> Iterator[str]:
    yield f"as of {local_time(snapshot.as_of)}"
    for table in snapshot.tables:
        yield ""
        yield from table_lines(table, now)


def table_lines(table: Table, now: datetime) -> Iterator[str]:
    yield heading(table)
    if table.rows:
        titles = [*(column.title for column in table.columns), READ]
        rows = [
            [*(cell_text(row, column, now) for column in table.columns), freshness(row.region, now)]
            for row in table.rows
        ]
        yield from _aligned([titles, *rows])
    else:
        yield f"  {nothing_line(table)}"
    for line in region_lines(table, now):
        yield f"  ! {line}"
    for row in table.rows:
        yield from error_lines(row, with_log=True)


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [text.ljust(width) for text, width in zip(row, widths, strict=True)]
        yield f"  {'  '.join(cells)}".rstrip()
