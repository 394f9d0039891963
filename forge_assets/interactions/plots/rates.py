"""Rejected and failed of the attempted, step by step, against the limits that the checks hold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from forge_assets.config import Thresholds
from forge_assets.interactions.plots.canvas import (
    FAINT,
    INK,
    ORANGE,
    VERMILION,
    bars,
    draw,
    left_of_labels,
    legend,
    panel,
    short,
)
from resources.store_types import StepCounts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_STEPS = 8


@dataclass(frozen=True, slots=True)
class StepRate:
    """Rates in percent; None where nothing was attempted."""

    label: str
    rejection: float | None
    error: float | None
    rejected_text: str
    failed_text: str


@dataclass(frozen=True, slots=True)
class Rates:
    title: str
    x_label: str
    steps: tuple[StepRate, ...]
    rejection_limit: float
    error_limit: float
    summary: str


def rates(steps: Sequence[StepCounts], thresholds: Thresholds) -> Rates | None:
    """None where no step attempted anything. Of many steps those with the worst rates."""
    if not any(step.attempted for step in steps):
        return None
    places = sorted(range(len(steps)), key=lambda place: -_badness(steps[place]))[:_MOST_STEPS]
    shown = [steps[place] for place in sorted(places)]
    left_out = len(steps) - len(shown)
    more = f"; {left_out} more steps have lower ones" if left_out else ""
    found = "; ".join(map(_told, shown))
    return Rates(
        title=f"Rejected and failed by step{more}",
        x_label="% of the attempted interactions",
        steps=tuple(_rate(step) for step in shown),
        rejection_limit=100 * thresholds.rejection_rate,
        error_limit=100 * thresholds.error_rate,
        summary=f"{found}{more}",
    )


def draw_rates(shown: Rates) -> bytes:
    def paint(figure: "Figure") -> None:
        labels = [step.label for step in shown.steps]
        axes = panel(figure, shown.title, left=left_of_labels(labels))
        places = range(len(labels))
        found = [max(step.rejection or 0, step.error or 0) for step in shown.steps]
        widest = max(*found, shown.rejection_limit, shown.error_limit)
        for offset, name, colour, hatch, values in (
            (-0.19, "rejected", ORANGE, None, [step.rejection or 0.0 for step in shown.steps]),
            (0.19, "failed", VERMILION, "///", [step.error or 0.0 for step in shown.steps]),
        ):
            bars(axes, [place + offset for place in places], values, 0.34, orientation="horizontal",
                 facecolor=colour, edgecolor="white", hatch=hatch, label=name)  # fmt: skip
        for place, step in zip(places, shown.steps, strict=True):
            for offset, rate, text in (
                (-0.19, step.rejection, step.rejected_text),
                (0.19, step.error, step.failed_text),
            ):
                axes.text((rate or 0) + widest / 100, place + offset, text, va="center", size=9,
                          color=INK if rate else FAINT)  # fmt: skip
        for limit, colour, name in (
            (shown.rejection_limit, ORANGE, "rejected"),
            (shown.error_limit, VERMILION, "failed"),
        ):
            label = f"limit of {name}: {limit:.4g} %"
            axes.axvline(limit, color=colour, linestyle="--", linewidth=1.6, label=label)
        axes.set_xlim(0, widest * 1.22 or 1)
        axes.set_yticks(list(places), labels)
        axes.set_ylim(len(labels) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(shown.x_label)
        legend(axes)

    return draw(paint)


def _rate(step: StepCounts) -> StepRate:
    if not step.attempted:
        return StepRate(short(step.step), None, None, "nothing attempted", "")
    return StepRate(
        label=short(step.step),
        rejection=100 * step.rejected / step.attempted,
        error=100 * step.failed / step.attempted,
        rejected_text=f"{step.rejected} of {step.attempted}",
        failed_text=f"{step.failed} of {step.attempted}",
    )


def _told(step: StepCounts) -> str:
    if not step.attempted:
        return f"{step.step} nothing attempted"
    return f"{step.step} {step.rejected} rejected and {step.failed} failed of {step.attempted}"


def _badness(step: StepCounts) -> float:
    return (step.rejected + step.failed) / step.attempted if step.attempted else 0.0
