"""How large the batches were in which the answers were made."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from forge_assets.interactions.plots.canvas import SERIES, bars, draw, legend, panel, short
from resources.picture_reads import BatchBin

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_SIZES = 16
_MOST_MODELS = len(SERIES)


@dataclass(frozen=True, slots=True)
class BatchSizes:
    """``counts``: model -> interactions by size, in the order of ``sizes``."""

    title: str
    x_label: str
    y_label: str
    sizes: tuple[str, ...]
    counts: dict[str, tuple[int, ...]]
    summary: str


def batch_sizes(bins: Sequence[BatchBin]) -> BatchSizes | None:
    """Each size by itself, or doubling ranges where there are many. None where no batch is known."""
    if not bins:
        return None
    sizes = sorted({entry.size for entry in bins})
    single = [(size, size) for size in sizes]
    ranges = single if len(sizes) <= _MOST_SIZES else _doubling(sizes[-1])
    models = list(dict.fromkeys(entry.model for entry in bins))
    total = {model: sum(e.interactions for e in bins if e.model == model) for model in models}
    own = sorted(sorted(models, key=lambda model: -total[model])[:_MOST_MODELS], key=models.index)
    if len(models) > len(own):
        own = own[:-1]
    counts = {short(model): _counts(bins, {model}, ranges) for model in own}
    if others := set(models) - set(own):
        counts[f"{len(others)} others"] = _counts(bins, others, ranges)
    answers = sum(total.values())
    mean = sum(entry.size * entry.interactions for entry in bins) / answers
    return BatchSizes(
        title="Interactions by the size of their batch",
        x_label="interactions in a batch (at a server: requests at once)",
        y_label="interactions",
        sizes=tuple(f"{low}" if low == high else f"{low}-{high}" for low, high in ranges),
        counts=counts,
        summary=f"{answers} interactions in batches of {sizes[0]} to {sizes[-1]}; an interaction's"
        f" batch had {mean:.1f} on average",
    )


def draw_batch_sizes(shown: BatchSizes) -> bytes:
    def paint(figure: "Figure") -> None:
        axes = panel(figure, shown.title)
        places = range(len(shown.sizes))
        below: list[float] = [0.0] * len(shown.sizes)
        for colour, (model, counts) in zip(SERIES, shown.counts.items(), strict=False):
            bars(axes, places, counts, 0.8 if len(places) > 3 else 0.3, upon=below,
                 facecolor=colour, label=model)  # fmt: skip
            below = [low + count for low, count in zip(below, counts, strict=True)]
        for place, height in zip(places, below, strict=True):
            if height:
                axes.text(place, height, f"{height:,.0f}", ha="center", va="bottom", size=9.5)
        axes.set_xlim(-0.6, len(places) - 0.4)
        axes.set_ylim(0, max(below) * 1.1)
        axes.set_xticks(list(places), shown.sizes)
        axes.grid(visible=False, axis="x")
        axes.set_xlabel(shown.x_label)
        axes.set_ylabel(shown.y_label)
        legend(axes)

    return draw(paint)


def _doubling(largest: int) -> list[tuple[int, int]]:
    """1, 2, 3-4, 5-8, 9-16, ..."""
    ranges, end = [(1, 1)], 1
    while end < largest:
        ranges.append((end + 1, 2 * end))
        end *= 2
    return ranges


def _counts(
    bins: Sequence[BatchBin], models: set[str], ranges: Sequence[tuple[int, int]]
) -> tuple[int, ...]:
    return tuple(
        sum(e.interactions for e in bins if e.model in models and low <= e.size <= high)
        for low, high in ranges
    )
