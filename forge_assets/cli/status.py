"""`forge status`: every stage with its counts, rates and verdict."""

import json
from typing import Any

from forge_assets.cli.open import open_store, out, plans_of
from forge_assets.interactions.status import stage_rows, subjects_beyond

_WIDTH = 180


def show(workflow: str | None, as_json: bool) -> int:
    store = open_store()
    plans = plans_of(workflow)
    rows: list[dict[str, Any]] = []
    for plan in plans:
        name = {"workflow": plan.workflow.name} if len(plans) > 1 else {}
        rows += [{**name, **row} for row in stage_rows(plan, store)]
    beyond = subjects_beyond(plans[0].project, store)
    warnings = []
    if beyond:
        last = plans[0].project.stages[-1].key
        warnings.append(f"{beyond} subjects lie beyond {last}; raise batches.count in forge.yaml")
    if as_json:
        out(json.dumps({"stages": rows} | ({"warnings": warnings} if warnings else {}), indent=2))
        return 0
    _print(rows, several=len(plans) > 1)
    for warning in warnings:
        out(f"warning: {warning}")
    return 0


def _print(rows: list[dict[str, Any]], several: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    headings = ["workflow"] * several + ["stage", "verdict", "subjects", "pending", "running"]
    headings += ["completed", "rejected", "failed", "skipped", "rejection", "errors"]
    headings += ["a minute", "s each", "loads"]
    for heading in headings:
        name = heading in headings[: 2 + several]
        table.add_column(heading, justify="left" if name else "right", no_wrap=name)
    for row in rows:
        counts = row["interactions"].values()
        cells = [row["workflow"]] if several else []
        verdict = row["verdict"] + (f", {row['stale']} stale" if row["stale"] else "")
        cells += [row["partition"], verdict, str(row["subjects"]), *map(str, counts)]
        cells += [_percent(row["rejection_rate"]), _percent(row["error_rate"])]
        cells += [_number(row["per_minute"], 0), _number(row["seconds_per_interaction"], 2)]
        table.add_row(*cells, str(row["model_loads"]))
    wide_enough = Console()
    if wide_enough.width < _WIDTH and not wide_enough.is_terminal:
        wide_enough = Console(width=_WIDTH)
    wide_enough.print(table)


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{100 * rate:.1f} %"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
