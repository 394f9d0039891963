"""The plots of a stage: read, drawn, written beside the report, shown in Dagster.

None of it can fail a stage: what went wrong takes the place of the picture, as a sentence.
"""

import base64
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

from forge_assets.config import Thresholds
from forge_assets.interactions.plots.batches import batch_sizes, draw_batch_sizes
from forge_assets.interactions.plots.latency import draw_latencies, latencies
from forge_assets.interactions.plots.memory import MemoryUse, draw_memory, memory_use
from forge_assets.interactions.plots.predictions import draw_predictions, predictions
from forge_assets.interactions.plots.rates import draw_rates, rates
from forge_assets.interactions.plots.throughput import (
    Throughput,
    bucket_width,
    draw_throughput,
    throughput,
    total_seconds,
)
from forge_assets.interactions.report import StageReport
from forge_assets.markdown import plain
from resources.machine_limits import Limits
from resources.picture_reads import PictureReads
from resources.plain_text import sentence

EMBEDDED_BYTES = 300_000
"""Of all pictures in one event, as base64."""
_MEMORY_POINTS = 240
D = TypeVar("D", bound="Plotted")


class Plotted(Protocol):
    """Anything drawn has a summary: its figures in a sentence."""

    @property
    def summary(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Picture:
    """``summary``: what it shows, as text, or why there is none; then ``png`` is None."""

    name: str
    title: str
    summary: str
    png: bytes | None


def stage_pictures(
    reads: PictureReads,
    run_ids: Collection[str],
    report: StageReport,
    thresholds: Thresholds,
    limits: Limits,
    say: Callable[[str], None],
) -> list[Picture]:
    """All six, drawn or with the reason why not; ``run_ids``: the runs of the stage."""
    scope = report.scope
    return [
        _picture("rates", "Rates by step", "nothing was attempted", say,
                 lambda: rates(report.steps, thresholds), draw_rates),
        _picture("throughput", "Throughput", "nothing ended in a measurable time", say,
                 lambda: _throughput(reads, report, thresholds), draw_throughput),
        _picture("memory", "Memory", "no sample of the machine was taken", say,
                 lambda: _memory(reads, run_ids, limits), draw_memory),
        _picture("latency", "Latency", "nothing was answered", say,
                 lambda: latencies(reads.latencies(scope), report.steps), draw_latencies),
        _picture("batch_sizes", "Batch sizes", "no answer says in which batch it was made", say,
                 lambda: batch_sizes(reads.batch_sizes(scope)), draw_batch_sizes),
        _picture("predictions", "Predicted and real",
                 "nothing was predicted: a first run on this machine has nothing to go by", say,
                 lambda: predictions(report.residencies), draw_predictions),
    ]  # fmt: skip


def keep_pictures(
    folder: Path,
    pictures: Sequence[Picture],
    replace_file: Callable[[Path, Callable[[Path], object]], None],
    say: Callable[[str], None],
) -> list[Picture]:
    """Writes each as ``folder/NAME.png``, removes one of an earlier run that there is none of now."""
    kept = []
    for picture in pictures:
        path = folder / f"{picture.name}.png"
        png = picture.png
        try:
            if png is None:
                path.unlink(missing_ok=True)
            else:
                folder.mkdir(exist_ok=True)
                replace_file(path, lambda scratch, png=png: scratch.write_bytes(png))  # type: ignore[misc]
            kept.append(picture)
        except OSError as error:
            reason = f"could not be written ({error.strerror or error})"
            say(f"the plot {picture.name} {reason}")
            kept.append(replace(picture, png=None, summary=reason))
    return kept


def linked(pictures: Sequence[Picture], folder: str) -> str:
    """The section of the report; links are relative to it."""
    return _section(pictures, lambda picture: f"{folder}/{picture.name}.png")


def embedded(pictures: Sequence[Picture]) -> str:
    """The same for Dagster's metadata, the pictures inside; one too many is left to its file."""
    left = EMBEDDED_BYTES
    shown = []
    for picture in pictures:
        size = len(picture.png or b"") * 4 // 3
        if size > left:
            picture = replace(
                picture, png=None, summary=f"{picture.summary} (see plots/{picture.name}.png)"
            )
            size = 0
        left -= size
        shown.append(picture)
    return _section(shown, lambda one: f"data:image/png;base64,{_base64(one.png or b'')}")


def _section(pictures: Sequence[Picture], address: Callable[[Picture], str]) -> str:
    parts = ["## Plots"]
    for picture in pictures:
        text = _one_line(picture.summary)
        parts.append(f"### {picture.title}")
        if picture.png is not None:
            parts.append(f"![{picture.title}]({address(picture)})")
        parts.append(f"{text[:1].upper()}{text[1:]}.")
    return "\n\n".join(parts) + "\n"


def _picture(
    name: str,
    title: str,
    nothing: str,
    say: Callable[[str], None],
    read: Callable[[], D | None],
    draw: Callable[[D], bytes],
) -> Picture:
    try:
        data = read()
        if data is None:
            return Picture(name, title, nothing, None)
        return Picture(name, title, data.summary, draw(data))
    except Exception as error:  # whatever it is, the results of the stage are worth more
        reason = sentence(f"not drawn: {type(error).__name__}: {error}")
        say(f"the plot {name} was {reason}; the results are not touched by it")
        return Picture(name, title, reason, None)


def _throughput(
    reads: PictureReads, report: StageReport, thresholds: Thresholds
) -> Throughput | None:
    spans, unit = reads.working_spans(report.scope), thresholds.per_minute_counts
    width = bucket_width(total_seconds(spans))
    finished = reads.finished(report.scope, spans, width, unit)
    counts = report.counts
    measured = counts.subjects_per_minute if unit == "subjects" else counts.per_minute
    return throughput(finished, spans, width, thresholds, measured)


def _memory(reads: PictureReads, run_ids: Collection[str], limits: Limits) -> MemoryUse | None:
    spans = reads.sampled_spans(run_ids)
    # A single reading is a span of no length.
    width = max(1.0, total_seconds(spans) / _MEMORY_POINTS)
    return memory_use(reads.memory(run_ids, spans, width), spans, limits)


def _one_line(text: str) -> str:
    """A sentence in Markdown; what could be markup in a name is not."""
    shown = plain(text)
    return "".join(f"&#{ord(sign)};" if sign in "*_\\[]~" else sign for sign in shown)


def _base64(png: bytes) -> str:
    return base64.b64encode(png).decode()
