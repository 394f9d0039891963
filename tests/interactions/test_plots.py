"""Every plot: numbers in, a picture of one size out; what it says is in its data."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from PIL import Image

from forge_assets.config import Thresholds
from forge_assets.interactions.plots.batches import batch_sizes, draw_batch_sizes
from forge_assets.interactions.plots.canvas import HEIGHT, SERIES, WIDTH
from forge_assets.interactions.plots.latency import draw_latencies, latencies
from forge_assets.interactions.plots.memory import draw_memory, memory_use
from forge_assets.interactions.plots.predictions import draw_predictions, predictions
from forge_assets.interactions.plots.rates import draw_rates, rates
from forge_assets.interactions.plots.throughput import (
    bucket_width,
    draw_throughput,
    throughput,
)
from resources.machine_limits import Limits
from resources.picture_reads import LATENCY_BINS, BatchBin, LatencyBin, MemoryPoint, WorkSpan
from resources.store_types import Residency, StepCounts

MOST_BYTES = 60_000
START = datetime(2025, 1, 1, tzinfo=UTC)
HOSTILE = "a $\\frac{x}$ model \u202e\x1b[31m with a name of great length | and `more`"
GB = 10**9


def span(before: float, seconds: float, start: float | None = None) -> WorkSpan:
    begin = START + timedelta(seconds=before if start is None else start)
    return WorkSpan(begin, begin + timedelta(seconds=seconds), before)


def stay(
    model: str, predicted: float | None, real: float, run: str = "r", **more: Any
) -> Residency:
    return Residency(
        run, model, "hash", "transformers", "cpu", 1.0, real - 1.0, 10, 100, 50, "why",
        predicted_seconds=predicted, **more,
    )  # fmt: skip


def step(name: str, completed: int, rejected: int = 0, failed: int = 0) -> StepCounts:
    return StepCounts(
        name, "small", completed=completed, rejected=rejected, failed=failed,
        p50_seconds=1.0, p95_seconds=2.0,
    )  # fmt: skip


TWO = [span(0, 60), span(60, 60, start=9000)]
STEPS = [step("summarize", 90, 10), step("grade", 40, 0, 10), StepCounts("rewrite", HOSTILE)]
SOME: dict[str, tuple[Callable[..., bytes], Any]] = {
    "rates": (draw_rates, rates(STEPS, Thresholds())),
    "throughput": (
        draw_throughput,
        throughput({0: 10, 3: 4, 11: 2}, TWO, 10, Thresholds(per_minute=30), 25.0),
    ),
    "memory": (
        draw_memory,
        memory_use(
            [
                *(MemoryPoint(None, n * 10.0, n * GB, 64 * GB) for n in range(12)),
                *(MemoryPoint(f"0 {HOSTILE}", n * 10.0, 6 * n * GB, 80 * GB) for n in range(12)),
            ],
            TWO,
            Limits(),
        ),
    ),
    "latency": (
        draw_latencies,
        latencies(
            [LatencyBin("summarize", "small", n, 50 - abs(n)) for n in range(-40, 40)]
            + [LatencyBin("rewrite", HOSTILE, 3, 1)],
            STEPS,
        ),
    ),
    "batch_sizes": (
        draw_batch_sizes,
        batch_sizes([BatchBin("small", 8, 64), BatchBin(HOSTILE, 3, 3), BatchBin("small", 1, 1)]),
    ),
    "predictions": (
        draw_predictions,
        predictions(
            [stay(HOSTILE, 20.0, 25.0, memory_predicted=2 * GB, memory_seen=GB), stay("b", 9, 3)]
        ),
    ),
}


@dataclass
class Seen:
    """A picture as it is read back."""

    size: tuple[int, int]
    mode: str
    pixels: Any

    def share_of(self, colour: str) -> float:
        """Of the pixels, those near a colour."""
        wanted = np.array([int(colour[n : n + 2], 16) for n in (1, 3, 5)])
        near = np.abs(self.pixels.astype(int) - wanted).max(axis=2) < 40
        return float(near.mean())


def read(png: bytes) -> Seen:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    picture = Image.open(io.BytesIO(png))
    picture.load()
    return Seen(picture.size, picture.mode, np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize("name", SOME)
def test_a_plot_is_a_small_png_that_is_not_blank(name: str) -> None:
    draw, data = SOME[name]
    assert data is not None
    png = draw(data)
    seen = read(png)
    assert seen.size == (WIDTH, HEIGHT)
    assert len(png) < MOST_BYTES
    assert seen.pixels.std() > 10, "something is drawn"
    assert seen.share_of("#ffffff") > 0.4, "on white paper"
    assert any(seen.share_of(colour) > 0.003 for colour in SERIES), "in the palette"
    assert data.title
    assert data.summary


@pytest.mark.parametrize("name", SOME)
def test_the_same_numbers_give_the_same_picture(name: str) -> None:
    draw, data = SOME[name]
    assert draw(data) == draw(data)


def test_a_users_matplotlib_settings_have_no_part_in_it() -> None:
    import matplotlib as mpl

    draw, data = SOME["rates"]
    before = draw(data)
    changed = {"text.usetex": True, "font.size": 40.0, "axes.facecolor": "red", "figure.dpi": 30.0}
    with mpl.rc_context(changed):
        assert draw(data) == before
        assert mpl.rcParams["font.size"] == 40.0, "and it leaves them as they were"


def test_rates_are_of_the_attempted_and_stand_by_their_limits() -> None:
    found = rates(STEPS, Thresholds(rejection_rate=0.2, error_rate=0.1))
    assert found is not None
    assert [(one.rejection, one.error) for one in found.steps] == [(10, 0), (0, 20), (None, None)]
    assert [one.rejected_text for one in found.steps] == [
        "10 of 100",
        "0 of 50",
        "nothing attempted",
    ]
    assert (found.rejection_limit, found.error_limit) == (20, 10)
    assert "% of the attempted" in found.x_label


def test_of_many_steps_the_worst_are_shown_in_their_order() -> None:
    found = rates([step(f"s{n}", 100 - n, n) for n in range(20)], Thresholds())
    assert found is not None
    assert [one.label for one in found.steps] == [f"s{n}" for n in range(12, 20)]
    assert "12 more steps" in found.title


def test_throughput_leaves_pauses_out_and_weighs_a_short_last_bucket() -> None:
    found = throughput({0: 10, 1: 5}, [span(0, 20), span(20, 10, 9000)], 20, Thresholds(), 30.0)
    assert found is not None
    assert found.edges == (0, 20, 30)
    assert found.values == (30, 30)
    assert found.cuts == (20,)
    assert found.x_label.startswith("seconds of work, 1 pause left out")
    assert (found.limit, found.measured) == (80, 30)


def test_a_sliver_of_a_bucket_belongs_to_the_one_before() -> None:
    found = throughput({0: 8, 1: 1}, [span(0, 10.8)], 10, Thresholds(per_minute=0), None)
    assert found is not None
    assert found.edges == (0, 10.8)
    assert found.values == (pytest.approx(50),)
    assert found.limit is None


@pytest.mark.parametrize(
    ("seconds", "width"), [(3, 1), (60, 1), (61, 2), (3600, 60), (10**7, None)]
)
def test_buckets_are_few(seconds: float, width: float | None) -> None:
    found = bucket_width(seconds)
    assert seconds / found <= 60.001
    assert width is None or found == width


def test_subjects_are_counted_where_the_check_counts_them() -> None:
    found = throughput({0: 1}, [span(0, 600)], 600, Thresholds(per_minute_counts="subjects"), 0.1)
    assert found is not None
    assert found.y_label == "subjects a minute"
    assert found.x_label.startswith("minutes of work")


def test_memory_has_a_line_for_each_device_and_its_limit() -> None:
    data = SOME["memory"][1]
    assert [round(line.limit, 3) for line in data.lines] == [60, 76]
    assert data.lines[0].label == "host"
    assert data.lines[1].label.startswith("GPU 0 ")
    assert data.lines[1].used[-1] == 66
    alone = memory_use([MemoryPoint(None, 0.5, GB, 4 * GB)], [span(0, 0)], Limits())
    assert alone is not None
    assert "no GPU" in alone.title
    assert read(draw_memory(alone)).pixels.std() > 10, "one reading is a point"


def test_latencies_are_counted_by_step_on_one_scale() -> None:
    bins = [LatencyBin("a", "small", n * LATENCY_BINS, n + 1) for n in range(4)]
    found = latencies([*bins, LatencyBin("b", "big", 0, 7)], [step("a", 10)])
    assert found is not None
    assert [row.label for row in found.rows] == ["a\nsmall", "b\nbig"]
    assert [sum(row.counts) for row in found.rows] == [10, 7]
    assert len(found.edges) - 1 <= 48
    assert found.edges[0] == pytest.approx(1)
    assert found.edges[-1] > 1000
    assert found.ticks == (1, 10, 100, 1000)
    assert found.rows[0].note == "10 interactions, p50 1 s, p95 2 s (dashed)"
    assert found.rows[1].note == "7 interactions"


def test_a_narrow_range_of_seconds_has_ticks_too() -> None:
    found = latencies([LatencyBin("a", "small", 7, 3)], [])
    assert found is not None
    assert len(found.ticks) >= 2
    assert all(found.edges[0] * 0.99 <= tick <= found.edges[-1] * 1.01 for tick in found.ticks)


def test_many_batch_sizes_are_ranges() -> None:
    found = batch_sizes([BatchBin("small", size, 1) for size in range(1, 65)])
    assert found is not None
    assert found.sizes == ("1", "2", "3-4", "5-8", "9-16", "17-32", "33-64")
    assert found.counts == {"small": (1, 1, 2, 4, 8, 16, 32)}
    assert "32.5 on average" in found.summary


def test_models_beyond_the_palette_are_one() -> None:
    found = batch_sizes([BatchBin(f"m{n}", 4, 10 - n) for n in range(9)])
    assert found is not None
    assert list(found.counts) == ["m0", "m1", "m2", "m3", "m4", "4 others"]
    assert sum(counts[0] for counts in found.counts.values()) == 54


def test_a_prediction_is_of_all_turns_of_a_model_in_a_run() -> None:
    found = predictions(
        [
            stay("a", 10.0, 6.0, memory_predicted=2 * GB, memory_seen=GB),
            stay("a", None, 6.0, run="r/2", memory_seen=3 * GB),
            stay("b", None, 5.0, memory_predicted=GB),
        ]
    )
    assert found is not None
    assert [(pair.predicted, pair.real) for pair in found.seconds] == [(10, 12)]
    assert [(pair.predicted, pair.real) for pair in found.gigabytes] == [(2, 3)]
    assert found.seconds[0].text == "12 (120 %)"


def test_one_half_of_the_predictions_may_be_missing() -> None:
    found = predictions([stay("b", None, 5.0, memory_predicted=2 * GB, memory_seen=GB)])
    assert found is not None
    assert read(draw_predictions(found)).pixels.std() > 5


def test_nothing_to_plot_is_no_plot() -> None:
    assert rates([StepCounts("a", "m", skipped=3)], Thresholds()) is None
    assert throughput({}, [span(0, 10)], 1, Thresholds(), None) is None
    assert throughput({0: 1}, [span(0, 0)], 1, Thresholds(), None) is None
    assert memory_use([], [], Limits()) is None
    assert latencies([], STEPS) is None
    assert batch_sizes([]) is None
    assert predictions([stay("a", None, 3.0)]) is None
