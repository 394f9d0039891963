"""What was predicted of each model before a run, beside what it took: seconds and memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from forge_assets.interactions.plots.canvas import (
    BLUE,
    INK,
    ORANGE,
    bars,
    draw,
    headline,
    left_of_labels,
    legend,
    panel,
    short,
)
from resources.machine_reading import GIGABYTE
from resources.store_types import Residency
from resources.worker_ids import run_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_ROWS = 6


@dataclass(frozen=True, slots=True)
class Pair:
    label: str
    predicted: float
    real: float

    @property
    def text(self) -> str:
        """Of the real value, as a share of the predicted one."""
        return f"{self.real:.3g} ({100 * self.real / self.predicted:.0f} %)"


@dataclass(frozen=True, slots=True)
class Predictions:
    """The newest of each kind, oldest first."""

    title: str
    seconds: tuple[Pair, ...]
    gigabytes: tuple[Pair, ...]
    summary: str


def predictions(stays: Sequence[Residency]) -> Predictions | None:
    """Each model in each run. None where nothing was both predicted and seen."""
    runs: dict[tuple[str, str], list[Residency]] = {}
    for stay in stays:
        runs.setdefault((run_of(stay.run_id), stay.model), []).append(stay)
    seconds, gigabytes = [], []
    for (_, model), turns in runs.items():
        label, expected = short(model, 20), turns[0].predicted_seconds
        if expected:
            seconds.append(Pair(label, expected, sum(turn.seconds for turn in turns)))
        room = turns[0].memory_predicted
        seen = max((turn.memory_seen or 0 for turn in turns), default=0)
        if room and seen:
            gigabytes.append(Pair(label, room / GIGABYTE, seen / GIGABYTE))
    if not seconds and not gigabytes:
        return None
    seconds, gigabytes = seconds[-_MOST_ROWS:], gigabytes[-_MOST_ROWS:]
    told = [f"{pair.label} {pair.real:.1f} s of {pair.predicted:.1f} s" for pair in seconds]
    told += [f"{pair.label} {pair.real:.2f} GB of {pair.predicted:.2f} GB" for pair in gigabytes]
    return Predictions(
        title="Predicted before the run, and real",
        seconds=tuple(seconds),
        gigabytes=tuple(gigabytes),
        summary=f"real of predicted: {'; '.join(told)}",
    )


def draw_predictions(shown: Predictions) -> bytes:
    def paint(figure: "Figure") -> None:
        headline(figure, shown.title)
        labels = [pair.label for pair in (*shown.seconds, *shown.gigabytes)]
        edge = left_of_labels(labels)
        _half(figure, edge, 0.49, shown.seconds, "seconds", "no time was predicted")
        _half(figure, 0.5 + edge, 0.98, shown.gigabytes, "GB", "no memory was predicted and seen")

    return draw(paint)


def _half(
    figure: "Figure",
    left: float,
    right: float,
    pairs: Sequence[Pair],
    unit: str,
    nothing: str,
) -> None:
    if not pairs:
        figure.text((left + right) / 2, 0.5, nothing, ha="center", color=INK)
        return
    axes = panel(figure, None, left=left, right=right)
    places = range(len(pairs))
    for offset, name, colour, hatch, values in (
        (-0.19, "predicted", ORANGE, "///", [pair.predicted for pair in pairs]),
        (0.19, "real", BLUE, None, [pair.real for pair in pairs]),
    ):
        bars(axes, [place + offset for place in places], values, 0.34, orientation="horizontal",
             facecolor=colour, edgecolor="white", hatch=hatch, label=name)  # fmt: skip
    widest = max(max(pair.predicted, pair.real) for pair in pairs)
    for place, pair in zip(places, pairs, strict=True):
        axes.text(pair.predicted, place - 0.19, f" {pair.predicted:.3g}", va="center", size=9)
        axes.text(pair.real, place + 0.19, f" {pair.text}", va="center", size=9)
    axes.set_xlim(0, widest * 1.4)
    axes.set_yticks(list(places), [pair.label for pair in pairs])
    axes.set_ylim(len(pairs) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(unit)
    legend(axes)
