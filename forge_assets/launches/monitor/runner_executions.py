"""Executions of the runner: the Cloud Run job with the W&B Launch agent."""

from collections.abc import Sequence

from forge_assets.launches.monitor.explained import Explained, Told
from forge_assets.launches.monitor.reads import Picked, RegionRows, newest
from forge_assets.launches.monitor.table import Cell, Column, RegionState, Row, Span, Table
from forge_assets.launches.monitor.tables import RUNNER_EXECUTIONS
from forge_assets.launches.runner import queues
from forge_assets.launches.runner_report import RunnerReport, completed
from resources.cloud.cloud_run import Execution
from resources.cloud.resource_name import short

LIMIT = 5

COLUMNS = (
    Column("execution", "Execution"),
    Column("queue", "Queue", 40),
    Column("region", "Region"),
    Column("status", "Status"),
    Column("runs", "Runs"),
    Column("lifetime", "Lifetime"),
    Column("created", "Created"),
    Column("note", "Note", 75),
)
FAILED = frozenset({"FAILED"})


def newest_executions(
    reads: Sequence[RegionRows[Execution]], runner_job: str | None
) -> Picked[Execution]:
    """Of ``runner_job`` and of any other job that serves a queue; of all jobs when it is None."""
    return newest(
        reads,
        LIMIT,
        lambda each: runner_job in (None, each.job) or bool(queues(each.args)),
        lambda each: (each.created, each.name),
    )


def runner_executions(picked: Picked[Execution], told: Told) -> Table:
    rows = [_row(execution, region, told) for region, execution in picked.found]
    return Table(
        RUNNER_EXECUTIONS, "Runner executions", COLUMNS, rows, picked.regions, picked.count
    )


def _row(execution: Execution, region: RegionState, told: Told) -> Row:
    why = told.explained.get(execution.name, Explained())
    report = told.reports.get(execution.name, RunnerReport(None))
    failed = execution.state in FAILED
    error = (why.text or execution.message or "no reason was told") if failed else ""
    over = execution.is_over and execution.ended is None
    cells: dict[str, Cell] = {
        "execution": short(execution.name),
        "name": execution.name,
        "job": execution.job,
        "queue": ", ".join(queues(execution.args)) or None,
        "region": execution.region,
        "status": "FINISHED" if execution.state == "SUCCEEDED" else execution.state,
        "runs": report.runs,
        # Of an end without a time nothing is known.
        "lifetime": Span(None if over else execution.started or execution.created, execution.ended),
        "created": execution.created,
        "ended": execution.ended,
        "note": error or _note(execution.state, report, told.unread),
    }
    name = short(execution.name)
    return Row(name, cells, region, error, why.advice, why.log, why.log_note)


def _note(state: str, report: RunnerReport, unread: str) -> str:
    not_counted = f" ({unread})" if report.runs is None and unread else ""
    match state:
        case "PENDING":
            return "Starting..."
        case "RUNNING":
            return f"Running...{not_counted}"
        case "SUCCEEDED":
            return (report.note or completed(report.runs)) + not_counted
        case "CANCELLED":
            return "Cancelled"
    return "a state that this version does not know"
