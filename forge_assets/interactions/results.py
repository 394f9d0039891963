"""The files of a stage: one row per subject as Parquet, and the report."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg

from forge_assets.interactions.pictures import keep_pictures, linked, stage_pictures
from forge_assets.interactions.report import (
    read_stage_report,
    stage_report_json,
    stage_report_markdown,
)
from forge_assets.interactions.results_metadata import results_metadata
from forge_assets.interactions.stage_run import StageRun
from resources.errors import InfrastructureError
from resources.picture_reads import PictureReads

_PLOTS = "plots"


def write_results(run: StageRun) -> dg.MaterializeResult:
    """Writes results.parquet, report.md with its plots, and report.json; each complete or not at all."""
    folder = run.plan.project.output / run.plan.workflow.name / run.stage.key
    try:
        return _write_into(folder, run)
    except OSError as error:
        raise InfrastructureError(
            f"{folder}: cannot write the results ({error.strerror or error}); everything generated is"
            " in the store, make room there and run the same command again"
        ) from None


def _write_into(folder: Path, run: StageRun) -> dg.MaterializeResult:
    folder.mkdir(parents=True, exist_ok=True)
    _tell_of_another_dataset(folder, run)
    rows = run.store.result_rows(run.scope)
    _replace(folder / "results.parquet", lambda path: _write_parquet(rows, path))
    thresholds = run.plan.project.config.thresholds
    counts = run.gate.counts()[run.stage.key]
    report = read_stage_report(run.store, run.scope, counts, thresholds, run.limits)
    run_ids = [row.run_id for row in run.store.runs(run.scope)]
    drawn = stage_pictures(
        PictureReads(run.engine), run_ids, report, thresholds, run.limits, run.say
    )
    pictures = keep_pictures(folder / _PLOTS, drawn, _replace, run.say)
    markdown = stage_report_markdown(report)
    whole = f"{markdown}\n{linked(pictures, _PLOTS)}"
    _replace(folder / "report.md", lambda path: path.write_text(whole))
    data = json.dumps(stage_report_json(report), indent=2)
    _replace(folder / "report.json", lambda path: path.write_text(data))
    return dg.MaterializeResult(metadata=results_metadata(report, markdown, rows, drawn, folder))


def _tell_of_another_dataset(folder: Path, run: StageRun) -> None:
    """Two configurations may name one workflow and stage: the folder is the latest one's."""
    try:
        before = json.loads((folder / "report.json").read_text())["dataset"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if before != run.scope.dataset:
        run.say(f"{folder}: replaces the results of the dataset {before}")


def flat_row(row: dict[str, Any]) -> dict[str, Any]:
    """key, ordinal, fields as JSON, and per step: status, output, parsed as JSON, reason."""
    flat = {
        "key": row["key"],
        "ordinal": row["ordinal"],
        "fields": json.dumps(row["fields"], ensure_ascii=False, sort_keys=True),
    }
    for step, state in row["steps"].items():
        for name, value in state.items():
            if name == "parsed" and value is not None:
                value = json.dumps(value, ensure_ascii=False)
            flat[f"{step}.{name}"] = value
    return flat


def _write_parquet(results: list[dict[str, Any]], path: Path) -> None:
    """The ordinal as int64, everything else as string, also where a stage holds no value of it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [flat_row(row) for row in results]
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: _strings([row.get(name) for row in rows]) for name in names}
    if rows:
        columns["ordinal"] = columns["ordinal"].cast(pa.int64())
    pq.write_table(pa.table(columns), path)


def _strings(values: list[Any]) -> Any:
    """A pyarrow array. pa.array would import pandas to ask whether the list is one of its own."""
    import pyarrow as pa

    builder = pa.lib.StringBuilder()
    builder.append_values([None if value is None else str(value) for value in values])
    return builder.finish()


def _replace(path: Path, write: Callable[[Path], Any]) -> None:
    """A reader sees the old file or the new one, never half of it."""
    scratch = path.with_suffix(path.suffix + ".part")
    try:
        write(scratch)
        scratch.replace(path)
    except OSError:
        # A full disk is not kept full.
        scratch.unlink(missing_ok=True)
        raise
