"""Memory of the host and of every GPU while the stage worked, against the limits of forge.yaml."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from forge_assets.interactions.plots.canvas import FAINT, SERIES, draw, legend, panel, short
from forge_assets.interactions.plots.throughput import pauses, total_seconds, work_axis
from resources.machine_limits import Limits
from resources.machine_reading import GIGABYTE
from resources.picture_reads import MemoryPoint, WorkSpan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_DEVICES = 8


@dataclass(frozen=True, slots=True)
class MemoryLine:
    """In GB; ``limit``: what may be in use."""

    label: str
    times: tuple[float, ...]
    used: tuple[float, ...]
    limit: float
    total: float


@dataclass(frozen=True, slots=True)
class MemoryUse:
    title: str
    x_label: str
    y_label: str
    end: float
    lines: tuple[MemoryLine, ...]
    cuts: tuple[float, ...]
    summary: str


def memory_use(
    points: Sequence[MemoryPoint], spans: Sequence[WorkSpan], limits: Limits
) -> MemoryUse | None:
    """None where the machine was never read."""
    if not points:
        return None
    unit, x_label = work_axis(total_seconds(spans))
    devices = list(dict.fromkeys(point.device for point in points))[:_MOST_DEVICES]
    lines = tuple(
        _line(device, [point for point in points if point.device == device], unit, limits)
        for device in devices
    )
    return MemoryUse(
        title="Memory in use" if len(lines) > 1 else "Memory in use; this machine shows no GPU",
        x_label=x_label,
        y_label="GB",
        end=max(total_seconds(spans) / unit, max(line.times[-1] for line in lines)),
        lines=lines,
        cuts=pauses(spans, unit),
        summary="; ".join(
            f"{line.label} at most {max(line.used):.1f} of {line.total:.1f} GB" for line in lines
        ),
    )


def draw_memory(shown: MemoryUse) -> bytes:
    def paint(figure: "Figure") -> None:
        axes = panel(figure, shown.title, top=0.80 if len(shown.lines) < 3 else 0.72)
        for place, line in enumerate(shown.lines):
            colour = SERIES[place % len(SERIES)]
            style = "-" if place < len(SERIES) else "-."
            # One reading is a point, and no line.
            axes.plot(line.times, line.used, style, color=colour, linewidth=1.8, marker=".",
                      markersize=4 if len(line.times) > 1 else 9, label=line.label)  # fmt: skip
            axes.axhline(line.limit, color=colour, linestyle="--", linewidth=1.3,
                         label=f"limit: {line.limit:.4g} GB")  # fmt: skip
        for cut in shown.cuts:
            axes.axvline(cut, color=FAINT, linestyle=":", linewidth=1.5)
        axes.set_xlim(0, shown.end or 1)
        axes.set_ylim(0, 1.06 * max(max(*line.used, line.limit) for line in shown.lines))
        axes.set_xlabel(shown.x_label)
        axes.set_ylabel(shown.y_label)
        legend(axes)

    return draw(paint)


def _line(
    device: str | None, points: Sequence[MemoryPoint], unit: float, limits: Limits
) -> MemoryLine:
    total = max(point.total for point in points) / GIGABYTE
    if device is None:
        limit = max(0.0, total - limits.min_available_memory_gb)
    else:
        limit = total * limits.max_gpu_memory
    return MemoryLine(
        label="host" if device is None else f"GPU {short(device)}",
        times=tuple(point.seconds / unit for point in points),
        used=tuple(point.used / GIGABYTE for point in points),
        limit=limit,
        total=total,
    )
