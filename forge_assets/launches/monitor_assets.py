"""The assets `monitor/<table>`: what runs in the clouds, as tables in Dagster's metadata."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import dagster as dg

from forge_assets.launches.monitor.shown import error_lines
from forge_assets.launches.monitor.table import Table
from forge_assets.launches.monitor.tables import DESCRIPTIONS, TABLES
from forge_assets.markdown import fence
from forge_assets.project import Project
from resources.plain_text import visible

_MOST_LINES = 200
"""Of the logs of one table: an event of Dagster is no archive."""


def build_monitor_assets(project: Project) -> list[dg.AssetsDefinition]:
    """One operation for all tables: those that are asked for are read at once."""

    @dg.multi_asset(
        name="monitor",
        specs=[
            dg.AssetSpec(
                ["monitor", name],
                group_name="monitor",
                kinds={"table"},
                description=f"{DESCRIPTIONS[name]} Its metadata holds the rows, and of every region"
                " whether it could be read and when.",
            )
            for name in TABLES
        ],
        can_subset=True,
    )
    def monitor(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
        from forge_assets.dagster_words import one_sentence
        from forge_assets.launches.clouds import open_clouds
        from forge_assets.launches.kept_diagnoses import open_diagnoses
        from forge_assets.launches.monitor.monitor import Monitor

        selected = {key.path[1] for key in context.selected_asset_keys}
        with one_sentence():
            clouds = open_clouds(project.config.cloud)
            snapshot = Monitor(clouds, open_diagnoses(context.log.warning)).read(selected)
            if not snapshot.complete:
                context.log.warning(visible(snapshot.unread_sentence()))
            for table in snapshot.tables:
                yield dg.MaterializeResult(
                    asset_key=["monitor", table.name], metadata=metadata_of(table, snapshot.as_of)
                )

    return [monitor]


def metadata_of(table: Table, now: datetime) -> dict[str, Any]:
    """``region_states``: of every region how it was read; ``complete``: whether all were.

    Times are ISO texts and durations seconds, as in `forge monitor --json`.
    """
    shown = [*(column.name for column in table.columns), "region_state", "age"]
    rows = [row.as_json(now) for row in table.rows]
    regions = [region.as_json(now) for region in table.regions]
    metadata: dict[str, Any] = {
        "rows": _table(rows, shown),
        "region_states": _table(regions, ["region", "state", "age", "said"]),
        "row_count": len(table.rows),
        "found": table.found,
        "found_more": table.more,
        "complete": table.complete,
    }
    lines = [line for row in table.rows for line in error_lines(row, with_log=True)]
    if lines:
        metadata["errors"] = dg.MetadataValue.md(fence("\n".join(lines[:_MOST_LINES])))
    if table.note:
        metadata["note"] = table.note
    return metadata


def _table(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dg.TableMetadataValue:
    records = [dg.TableRecord({name: _plain(row[name]) for name in names}) for row in rows]
    # Named, since a table may have no rows.
    columns = [dg.TableColumn(name, _type_of(rows, name)) for name in names]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))


def _plain(value: Any) -> Any:
    return visible(value) if isinstance(value, str) else value


def _type_of(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    types = {type(row[name]) for row in rows} - {type(None)}
    if types <= {int, float} and types:
        return "float" if float in types else "int"
    return "string"
