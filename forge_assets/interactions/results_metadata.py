"""What Dagster shows of the results of a stage: figures, tables, plots, subjects. Bounded in size."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from forge_assets.interactions.pictures import Picture, embedded
from forge_assets.interactions.report import StageReport
from forge_assets.interactions.subjects_table import subjects_markdown
from resources.store_types import ModelCounts, StepCounts

_REPORT_CHARACTERS = 50_000
# Names of several words break in the head of a table: the page has little room to the side.
_COUNTS = ("attempted", "completed", "rejected", "failed", "skipped", "open")
_FIGURES = ("rejected %", "failed %", "p50 s", "p95 s")
_TOKENS = ("prompt tokens", "output tokens")


def results_metadata(
    report: StageReport,
    markdown: str,
    rows: Sequence[Mapping[str, Any]],
    pictures: Sequence[Picture],
    folder: Path,
) -> dict[str, Any]:
    """Of one materialization; ``markdown``: the report, ``rows``: as ``store.result_rows`` gives them."""
    counts = report.counts
    metadata: dict[str, Any] = {
        "plots": dg.MetadataValue.md(embedded(pictures)),
        "report": dg.MetadataValue.md(whole_sections(markdown)),
        "subject outcomes": dg.MetadataValue.md(subjects_markdown(rows)),
        "results": dg.MetadataValue.path(str(folder / "results.parquet")),
        "subjects": counts.subjects,
        "completed": counts.completed,
        "rejected": counts.rejected,
        "failed": counts.failed,
        "skipped": counts.skipped,
        "model loads": counts.model_loads,
    }
    # As numbers, which Dagster draws over the partitions.
    figures = {
        "rejection rate": counts.rejection_rate,
        "error rate": counts.error_rate,
        "interactions a minute": counts.per_minute,
    }
    metadata |= {name: round(value, 4) for name, value in figures.items() if value is not None}
    # Last, since they are long and wide.
    return metadata | {
        "per step": _table(["step", "model"], report.steps),
        "per model": _table(["model"], report.models),
    }


def whole_sections(markdown: str, most: int = _REPORT_CHARACTERS) -> str:
    """The report as far as whole sections fit; the file has all."""
    if len(markdown) <= most:
        return markdown
    cut = markdown.rfind("\n\n## ", 0, most)
    kept = markdown[:cut] if cut > 0 else ""
    return f"{kept}\n\nThe rest is too long for this page; report.md beside the results has all.\n"


def _table(
    names: Sequence[str], entries: Sequence[StepCounts] | Sequence[ModelCounts]
) -> dg.TableMetadataValue:
    columns = [dg.TableColumn(name, "string") for name in names]
    columns += [dg.TableColumn(name, "int") for name in _COUNTS]
    columns += [dg.TableColumn(name, "float") for name in _FIGURES]
    columns += [dg.TableColumn(name, "int") for name in _TOKENS]
    records = [dg.TableRecord(_record(names, entry)) for entry in entries]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))


def _record(names: Sequence[str], entry: StepCounts | ModelCounts) -> dict[str, Any]:
    shares = [_percent(part, entry.attempted) for part in (entry.rejected, entry.failed)]
    seconds = [_rounded(entry.p50_seconds), _rounded(entry.p95_seconds)]
    tokens = (entry.prompt_tokens, entry.output_tokens)
    return {
        **{name: getattr(entry, name) for name in (*names, *_COUNTS[:-1])},
        "open": entry.pending + entry.running,
        **dict(zip(_FIGURES, [*shares, *seconds], strict=True)),
        **dict(zip(_TOKENS, tokens, strict=True)),
    }


def _percent(part: int, attempted: int) -> float | None:
    return round(100 * part / attempted, 2) if attempted else None


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
