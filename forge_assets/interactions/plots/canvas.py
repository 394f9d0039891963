"""The paper under every plot: one size, one palette, a small file."""

import gc
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from resources.plain_text import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 900, 450
"""Pixels."""
_DPI = 100
_FILE_COLOURS = 48
_LONGEST_LABEL = 28
_TITLE_SIZE, _BOTTOM = 13, 0.14
_MOST_TICKS = 6

# Okabe and Ito: told apart with any colour vision, and in grey by their lightness.
BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"
VERMILION, PURPLE, SKY = "#D55E00", "#CC79A7", "#56B4E9"
SERIES = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION)
INK, FAINT = "#222222", "#999999"

_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 11.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "legend.frameon": False,
    "legend.fontsize": 10.0,
    # A name with dollar signs is no formula.
    "text.parse_math": False,
    "axes.unicode_minus": False,
}


def draw(paint: "Callable[[Figure], None]") -> bytes:
    """What ``paint`` puts on an empty figure, as a PNG of ``WIDTH`` x ``HEIGHT`` with a palette.

    The user's own matplotlibrc and backend have no part in it.
    """
    with _gc_paused():
        return _drawn(paint)


def _drawn(paint: "Callable[[Figure], None]") -> bytes:
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    style: Any = _changed_by_user(mpl) | _STYLE
    with mpl.rc_context(style), warnings.catch_warnings():
        # A sign that the font lacks becomes a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=(WIDTH / _DPI, HEIGHT / _DPI), dpi=_DPI, facecolor="white")
        canvas = FigureCanvasAgg(figure)
        paint(figure)
        canvas.draw()
        picture = Image.frombuffer("RGBA", (WIDTH, HEIGHT), canvas.buffer_rgba()).convert("RGB")
    file = io.BytesIO()
    few = picture.quantize(_FILE_COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    few.save(file, "PNG")
    return file.getvalue()


def panel(
    figure: "Figure",
    title: str | None,
    left: float = 0.09,
    right: float = 0.97,
    top: float = 0.82,
) -> "Axes":
    """Axes below the title and a row for the legend; left, right and top are shares of the figure.

    Fixed, since a layout engine draws everything twice.
    """
    if title is not None:
        headline(figure, title)
    axes = figure.add_axes((left, _BOTTOM, right - left, top - _BOTTOM))
    axes.tick_params(length=0)
    axes.locator_params(nbins=_MOST_TICKS)
    return axes


def headline(figure: "Figure", title: str) -> None:
    figure.text(0.02, 0.935, title, size=_TITLE_SIZE)


def bars(
    axes: "Axes",
    places: Sequence[float],
    values: Sequence[float],
    width: float,
    *,
    upon: Sequence[float] | None = None,
    **style: Any,
) -> None:
    """Bars around their places, all as one shape: a shape of its own for each takes ten times longer."""
    edges: list[float] = []
    heights: list[float] = []
    floors: list[float] = []
    for place, value, floor in zip(places, values, upon or [0.0] * len(values), strict=True):
        if edges:  # the gap before this bar
            heights.append(0.0)
            floors.append(0.0)
        edges += [place - width / 2, place + width / 2]
        heights.append(floor + value)
        floors.append(floor)
    axes.stairs(heights, edges, baseline=floors, fill=True, linewidth=0, **style)


def legend(axes: "Axes", columns: int = 4) -> None:
    """In its row between the title and the axes."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.01), ncols=columns, borderaxespad=0.2,
                columnspacing=1.4)  # fmt: skip


def left_of_labels(labels: Sequence[str]) -> float:
    """Where axes begin that have these texts on their left."""
    return 0.03 + 0.0094 * max(map(len, labels), default=0)


def short(name: str, longest: int = _LONGEST_LABEL) -> str:
    """A name that fits beside an axis."""
    shown = visible(name).replace("\n", " ")
    return shown if len(shown) <= longest else shown[: longest - 1] + "\u2026"


def _changed_by_user(mpl: Any) -> dict[str, Any]:
    """The defaults of what a matplotlibrc set."""
    defaults = mpl.rcParamsDefault
    return {
        name: defaults[name]
        for name in defaults
        if "backend" not in name and mpl.rcParams[name] != defaults[name]
    }


@contextmanager
def _gc_paused() -> Iterator[None]:
    """The collector would walk all that torch has made, again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
