"""What follows from a contestant's runs."""

import pytest

from forge_assets.bench.figures import Figures, Run


def run(rows: int = 50, tokens: int = 1000, seconds: float = 10.0) -> Run:
    return Run(rows, 5000, tokens, seconds, valid=40, gpu_busy=0.5)


def figures(*runs: Run, name: str = "static batches", least: float = 2.0) -> Figures:
    return Figures(name, 3.0, 1, runs, least)


def test_the_fastest_run_counts() -> None:
    found = figures(run(seconds=10.0), run(seconds=8.0), run(seconds=20.0))
    assert found.best.seconds == 8.0
    assert found.share == pytest.approx(0.25)


def test_a_projection_is_the_start_and_500_times_one() -> None:
    found = figures(run(rows=50, seconds=10.0))
    assert found.projected
    assert found.total == pytest.approx(3.0 + 500 * 0.2)


def test_what_was_run_in_full_is_no_projection() -> None:
    found = figures(run(rows=500, seconds=14.0))
    assert not found.projected
    assert found.total == pytest.approx(17.0)


def test_the_record_holds_every_figure() -> None:
    sequential = figures(run(rows=10, tokens=200, seconds=20.0), name="sequential generate")
    record = figures(run()).as_json(sequential)
    assert record["tokens_per_second"] == pytest.approx(100)
    assert record["times_sequential_in_tokens"] == pytest.approx(10)
    assert record["times_sequential_in_interactions"] == pytest.approx(10)
    assert record["interactions_per_minute"] == pytest.approx(300)
    assert record["valid_per_second"] == pytest.approx(4)
    assert record["gpu_busy"] == 0.5
    assert record["projected"] is True


def test_texts_that_mean_nothing_have_no_valid_rate() -> None:
    nothing = Figures("continuous batches", 0.0, 1, (Run(5, 50, 50, 1.0),), 0.5)
    assert nothing.as_json(nothing)["valid_per_second"] is None
