"""What ended in each minute of work, against the minimum that the check holds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from forge_assets.config import Thresholds
from forge_assets.interactions.plots.canvas import (
    BLUE,
    FAINT,
    GREEN,
    VERMILION,
    draw,
    legend,
    panel,
)
from resources.picture_reads import WorkSpan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_BUCKETS = 60
_WIDTHS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
_MINUTES_FROM = 180.0
"""Seconds of work from which on the axis counts minutes."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """``edges`` of the buckets in ``unit_seconds``; ``values`` per minute, one fewer than edges."""

    title: str
    x_label: str
    y_label: str
    edges: tuple[float, ...]
    values: tuple[float, ...]
    cuts: tuple[float, ...]
    """Where the work paused for as long as nobody worked."""
    limit: float | None
    measured: float | None
    summary: str


def bucket_width(seconds: float, most: int = _MOST_BUCKETS) -> float:
    """Seconds: the finest of the usual widths that makes few enough buckets."""
    return next((float(width) for width in _WIDTHS if seconds <= width * most), seconds / most)


def total_seconds(spans: Sequence[WorkSpan]) -> float:
    return sum(span.seconds for span in spans)


def work_axis(seconds: float) -> tuple[float, str]:
    """Seconds to a unit of the axis of work, and its label."""
    if seconds < _MINUTES_FROM:
        return 1.0, "seconds of work"
    return (60.0, "minutes of work") if seconds < 4 * 3600 else (3600.0, "hours of work")


def pauses(spans: Sequence[WorkSpan], unit: float) -> tuple[float, ...]:
    return tuple(span.before / unit for span in spans[1:])


def throughput(
    finished: Mapping[int, int],
    spans: Sequence[WorkSpan],
    width: float,
    thresholds: Thresholds,
    measured: float | None,
) -> Throughput | None:
    """``finished``: bucket of ``width`` seconds of work -> what ended in it; ``measured``: the check's
    own figure. None where nothing ended in a measurable time."""
    seconds, total = total_seconds(spans), sum(finished.values())
    if not total or seconds <= 0:
        return None
    edges = _edges(seconds, width)
    counts = [0] * (len(edges) - 1)
    for bucket, count in finished.items():
        counts[min(bucket, len(counts) - 1)] += count
    values = tuple(
        60 * count / (end - start)
        for count, start, end in zip(counts, edges, edges[1:], strict=False)
    )
    unit, x_label = work_axis(seconds)
    noun, limit = thresholds.per_minute_counts, thresholds.per_minute or None
    least, most = min(values), max(values)
    return Throughput(
        title=f"{noun.capitalize()} that ended, a minute",
        x_label=f"{x_label}, {_pause_text(len(spans) - 1)}loads of models included",
        y_label=f"{noun} a minute",
        edges=tuple(edge / unit for edge in edges),
        values=values,
        cuts=pauses(spans, unit),
        limit=limit,
        measured=measured,
        summary=f"{total} {noun} in {seconds:.1f} s of work; in buckets of {width:g} s from"
        f" {least:.4g} to {most:.4g} a minute"
        + (f", at least {limit:g} are asked for over the stage" if limit else ""),
    )


def draw_throughput(shown: Throughput) -> bytes:
    def paint(figure: "Figure") -> None:
        axes = panel(figure, shown.title)
        axes.stairs(shown.values, shown.edges, fill=True, color=BLUE, alpha=0.85)
        if shown.limit is not None:
            axes.axhline(shown.limit, color=VERMILION, linestyle="--", linewidth=1.8,
                         label=f"at least {shown.limit:g}")  # fmt: skip
        if shown.measured is not None:
            axes.axhline(shown.measured, color=GREEN, linestyle="-", linewidth=1.8,
                         label=f"the stage: {shown.measured:.1f}")  # fmt: skip
        for place, cut in enumerate(shown.cuts):
            axes.axvline(cut, color=FAINT, linestyle=":", linewidth=1.5,
                         label="a pause, left out" if not place else None)  # fmt: skip
        axes.set_xlim(shown.edges[0], shown.edges[-1])
        highest = max(*shown.values, shown.limit or 0, shown.measured or 0)
        axes.set_ylim(0, highest * 1.08)
        axes.set_xlabel(shown.x_label)
        axes.set_ylabel(shown.y_label)
        if axes.get_legend_handles_labels()[1]:
            legend(axes)

    return draw(paint)


def _edges(seconds: float, width: float) -> list[float]:
    """The last bucket ends with the work; a sliver of one belongs to the one before."""
    buckets = max(1, math.ceil(seconds / width - 0.25))
    return [place * width for place in range(buckets)] + [seconds]


def _pause_text(pauses_left_out: int) -> str:
    if not pauses_left_out:
        return ""
    return f"{pauses_left_out} pause{'s' if pauses_left_out > 1 else ''} left out, "
