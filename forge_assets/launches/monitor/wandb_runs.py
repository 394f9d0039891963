"""W&B's runs: those under way with what still waits in the queue, and the newest that are over."""

from collections.abc import Sequence
from typing import Any

from forge_assets.launches.monitor.reads import RegionRows, newest
from forge_assets.launches.monitor.table import Cell, Column, RegionState, Row, Span, Table
from forge_assets.launches.monitor.tables import ACTIVE_RUNS, COMPLETED_RUNS
from resources.cloud.wandb_types import QueueItem, Run
from resources.cloud.wire_values import NEVER

ACTIVE_STATES = frozenset({"running", "pending", "preempting", "preempted", "retrying"})
ACTIVE_READ = 100
COMPLETED_LIMIT = 10

COLUMNS = (
    Column("run", "Run ID", 40),
    Column("name", "Name", 40),
    Column("state", "State"),
    Column("runtime", "Runtime"),
    Column("created", "Created"),
)
_WAITING = {"PENDING": "queued", "LEASED": "leased"}
_TITLES = {ACTIVE_RUNS: "Active W&B runs", COMPLETED_RUNS: "Completed W&B runs"}


def active_runs(
    project: str, runs: Sequence[RegionRows[Run]], items: Sequence[RegionRows[QueueItem]]
) -> Table:
    """Newest first; what waits for an agent has no time yet and comes before."""
    picked = newest(runs, ACTIVE_READ, lambda run: not run.is_over, _age_key)
    rows = [_run_row(run, region) for region, run in picked.found]
    started = {run.id for run in picked.rows}
    waiting = [
        _item_row(item, read.region)
        for read in items
        for item in read.rows
        if _is_waiting(item, project) and item.run_id not in started
    ]
    regions = [*picked.regions, *(read.region for read in items)]
    return _table(ACTIVE_RUNS, [*waiting, *rows], regions, more=_are_cut(runs, ACTIVE_READ))


def completed_runs(runs: Sequence[RegionRows[Run]]) -> Table:
    picked = newest(runs, COMPLETED_LIMIT, lambda run: run.is_over, _age_key)
    rows = [_run_row(run, region) for region, run in picked.found]
    more = _are_cut(runs, COMPLETED_LIMIT)
    return _table(COMPLETED_RUNS, rows, picked.regions, more=more)


def without_wandb(name: str, note: str) -> Table:
    """In place of a table that nobody set up."""
    return _table(name, [], [], note)


def _are_cut(runs: Sequence[RegionRows[Run]], asked: int) -> bool:
    """Whether W&B gave as many as it was asked for, and may have more."""
    return any(len(read.rows) >= asked for read in runs)


def _table(
    name: str,
    rows: Sequence[Row],
    regions: Sequence[RegionState],
    note: str = "",
    more: bool = False,
) -> Table:
    return Table(name, _TITLES[name], COLUMNS, rows, regions, len(rows), note, more)


def _age_key(run: Run) -> tuple[object, str]:
    return run.created, run.id


def _is_waiting(item: QueueItem, project: str) -> bool:
    """A queue is an entity's: others may push runs of their own projects."""
    meant = item.spec.get("target_project") or item.spec.get("project") or project
    return item.state in _WAITING and meant == project


def _run_row(run: Run, region: RegionState) -> Row:
    unknown_end = run.is_over and run.ended is None
    created = None if run.created == NEVER else run.created
    cells: dict[str, Cell] = {
        "run": run.id,
        "name": run.name,
        "state": run.state,
        "runtime": Span(None if unknown_end else created, run.ended),
        "created": created,
        "ended": run.ended,
        "url": run.url,
        "launch": run.launch,
    }
    return Row(run.id, cells, region)


def _item_row(item: QueueItem, region: RegionState) -> Row:
    named: Any = item.spec.get("name")
    cells: dict[str, Cell] = {
        "run": item.run_id or item.id,
        "name": named if isinstance(named, str) and named else "(queue item)",
        "state": _WAITING[item.state],
        "runtime": Span(None, None),
        "created": None,
        "ended": None,
        "url": None,
        "launch": item.launch,
    }
    return Row(item.id, cells, region)
