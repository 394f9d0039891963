"""How long the interactions of each step took: one histogram above the other, on one scale of time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from forge_assets.interactions.plots.canvas import (
    BLUE,
    INK,
    VERMILION,
    draw,
    left_of_labels,
    panel,
    short,
)
from resources.picture_reads import LATENCY_BINS, LatencyBin
from resources.store_types import StepCounts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_ROWS = 7
_MOST_BINS = 48


@dataclass(frozen=True, slots=True)
class LatencyRow:
    """``counts``: interactions in each bin; seconds."""

    label: str
    counts: tuple[int, ...]
    p50: float | None
    p95: float | None
    note: str


@dataclass(frozen=True, slots=True)
class Latencies:
    """``edges``: seconds, one more than bins."""

    title: str
    x_label: str
    edges: tuple[float, ...]
    ticks: tuple[float, ...]
    rows: tuple[LatencyRow, ...]
    summary: str


def latencies(bins: Sequence[LatencyBin], steps: Sequence[StepCounts]) -> Latencies | None:
    """None where nothing was answered. Of many steps those with the most interactions."""
    if not bins:
        return None
    owners = list(dict.fromkeys((entry.step, entry.model) for entry in bins))
    weight = {owner: sum(e.interactions for e in bins if (e.step, e.model) == owner)
              for owner in owners}  # fmt: skip
    shown = sorted(sorted(owners, key=lambda owner: -weight[owner])[:_MOST_ROWS], key=owners.index)
    first, last = min(entry.place for entry in bins), max(entry.place for entry in bins)
    merged = math.ceil((last - first + 1) / _MOST_BINS)
    number = (last - first) // merged + 1
    counted = {(step.step, step.model): step for step in steps}
    rows = []
    for owner in shown:
        counts = [0] * number
        for entry in bins:
            if (entry.step, entry.model) == owner:
                counts[(entry.place - first) // merged] += entry.interactions
        rows.append(_row(owner, counts, weight[owner], counted.get(owner)))
    edges = tuple(_seconds(first + place * merged) for place in range(number + 1))
    left_out = len(owners) - len(rows)
    more = f"; {left_out} smaller steps are left out" if left_out else ""
    return Latencies(
        title=f"Seconds of an interaction, all attempts together{more}",
        x_label="seconds from the start of its batch to its own end",
        edges=edges,
        ticks=_ticks(edges[0], edges[-1]),
        rows=tuple(rows),
        summary="; ".join(f"{row.label.replace(chr(10), ' on ')}: {row.note}" for row in rows)
        + more,
    )


def draw_latencies(shown: Latencies) -> bytes:
    def paint(figure: "Figure") -> None:
        labels = [row.label for row in shown.rows]
        longest = [line for label in labels for line in label.split("\n")]
        axes = panel(figure, shown.title, left=left_of_labels(longest), top=0.88)
        for place, row in enumerate(shown.rows):
            base, most = len(labels) - 1 - place, max(row.counts)
            heights = [base + 0.72 * count / most for count in row.counts]
            axes.stairs(heights, shown.edges, baseline=base, fill=True, facecolor=BLUE, linewidth=0)
            for seconds, style in ((row.p50, "-"), (row.p95, "--")):
                if seconds is not None:
                    axes.plot((seconds, seconds), (base, base + 0.78), style, color=VERMILION,
                              linewidth=1.6)  # fmt: skip
            axes.axhline(base, color=INK, linewidth=0.6)
            axes.text(0.995, base + 0.9, row.note, transform=axes.get_yaxis_transform(),
                      ha="right", va="center", size=9.5)  # fmt: skip
        axes.set_xscale("log")
        axes.set_xlim(shown.edges[0] / 1.02, shown.edges[-1] * 1.02)
        axes.set_ylim(-0.02, len(labels))
        axes.set_xticks(shown.ticks, [f"{tick:g}" for tick in shown.ticks])
        axes.set_xticks((), minor=True)
        axes.set_yticks([len(labels) - 0.65 - place for place in range(len(labels))], labels)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(shown.x_label)

    return draw(paint)


def _row(
    owner: tuple[str, str], counts: Sequence[int], total: int, step: StepCounts | None
) -> LatencyRow:
    p50, p95 = (step.p50_seconds, step.p95_seconds) if step else (None, None)
    note = f"{total} interactions"
    if p50 is not None and p95 is not None:
        note += f", p50 {p50:.3g} s, p95 {p95:.3g} s (dashed)"
    return LatencyRow(f"{short(owner[0])}\n{short(owner[1])}", tuple(counts), p50, p95, note)


def _seconds(place: int) -> float:
    return float(10 ** (place / LATENCY_BINS))


def _ticks(first: float, last: float) -> tuple[float, ...]:
    """Round seconds between the two: 1, 2, 5 of each decade, and more of a narrow range."""
    decades = range(math.floor(math.log10(first)), math.ceil(math.log10(last)) + 1)
    for digits in (
        (1,),
        (1, 2, 5),
        (1, 1.5, 2, 3, 4, 5, 6, 8),
        tuple(n / 10 for n in range(10, 100)),
    ):
        found = tuple(
            round(digit * 10.0**decade, 6)
            for decade in decades
            for digit in digits
            if first <= digit * 10.0**decade <= last
        )
        if len(found) >= 3:
            return found[:: math.ceil(len(found) / 12)]
    return tuple(float(f"{seconds:.3g}") for seconds in (first, last))
