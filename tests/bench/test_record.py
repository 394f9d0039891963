"""The record as it is written, without a measurement."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from forge_assets.bench.contest import Contest
from forge_assets.bench.figures import Figures, Run
from forge_assets.bench.machine import gpu_name, record_name
from forge_assets.bench.overhead import Overhead
from forge_assets.bench.record import Record
from forge_assets.bench.roofline import Peaks
from forge_assets.bench.workers import FourWays, Way
from forge_assets.interactions.stages_report import read_baselines

MACHINE: dict[str, Any] = {
    "cpu": "A processor",
    "features": ["avx2"],
    "cores": 2,
    "threads": 2,
    "gpu": None,
    "python": "3.12.0",
    "torch": "2.13.0",
    "transformers": "5.23.0",
    "vllm": None,
    "dagster": "1.13.0",
}


def figures(name: str, rows: int, seconds: float, busy: float | None = None) -> Figures:
    run = Run(rows, 80 * rows, 30 * rows, seconds, valid=rows - 1, gpu_busy=busy)
    return Figures(name, 1.5, 1, (run,), seconds / 4, rows, rows)


def record(machine: dict[str, Any] = MACHINE, busy: float | None = None) -> Record:
    contest = Contest(
        "bfloat16",
        Peaks(20e9, 1e12),
        (figures("sequential generate", 20, 40.0, busy), figures("static batches", 64, 8.0, busy)),
        {"vllm": "not installed"},
    )
    ways = [("sequential", 1, 40.0), ("workers only", 5, 20.0)]
    ways += [("batches only", 1, 4.0), ("both", 5, 10.0)]
    four = tuple(Way(name, count, count == 5, seconds) for name, count, seconds in ways)
    work = {"rows": 64, "sequential_rows": 20, "new_tokens_at_most": 40, "repeats": 3}
    return Record(
        machine=machine,
        measured_at="2026-11-22T12:00:00+00:00",
        work=work,
        contests=[contest],
        four_ways=FourWays("bfloat16", 20, four),
        overhead=Overhead(10.0, 2.0, 5.0, 3.0, 2.5, 3),
    )


def cells(markdown: str, first: str) -> list[list[str]]:
    """The rows of the tables that begin with ``first``."""
    lines = [line.strip("|").split("|") for line in markdown.splitlines() if line.startswith("|")]
    return [
        [cell.strip() for cell in line[1:]] for line in lines if line and line[0].strip() == first
    ]


def test_the_tables_say_what_was_measured() -> None:
    markdown = record().as_markdown()
    speed, cost = cells(markdown, "static batches")
    assert speed == ["64", "8.0", "240.0", "16.0", "480", "63", "7.88", "64 of 64"]
    assert cost == ["1.5", "1", "5120", "1920", "no GPU", "64 projected", "25 %"]
    assert cells(markdown, "both") == [["5", "10.0", "4.0"]]
    for sentence in (
        "python 3.12.0, torch 2.13.0, transformers 5.23.0, dagster 1.13.0",
        "Target: 10 times sequential in tokens/s; reached with 16.0.",
        "vllm did not take part: not installed.",
        "4.0 times sequential; if their gains multiplied, it would be 20.0",
    ):
        assert sentence in markdown


def test_a_gpu_has_no_target_of_a_cpu() -> None:
    markdown = record({**MACHINE, "gpu": "NVIDIA H100 80GB HBM3"}, busy=0.83).as_markdown()
    assert "Target" not in markdown
    assert cells(markdown, "static batches")[1][4] == "83 %"


def test_a_gpu_that_does_not_tell() -> None:
    markdown = record({**MACHINE, "gpu": "NVIDIA H100 80GB HBM3"}).as_markdown()
    assert cells(markdown, "static batches")[1][4] == "not read"


def test_the_report_finds_the_baselines(tmp_path: Path) -> None:
    record().write(tmp_path, "cpu-2")
    (baseline,) = read_baselines(tmp_path).measured
    assert baseline.seconds_per_interaction == 2.0
    assert baseline.interactions == 20
    assert (tmp_path / "cpu-2.md").read_text() == record().as_markdown()
    written = json.loads((tmp_path / "cpu-2.json").read_text())
    assert written["contests"][0]["contestants"][1]["roofline_share"] == 0.25


def test_the_files_are_named_after_the_machine() -> None:
    assert record_name(MACHINE) == "cpu-2"
    assert record_name({**MACHINE, "gpu": "NVIDIA H100 80GB HBM3"}) == "gpu-h100"
    assert gpu_name("NVIDIA GeForce RTX 4090") == "geforce-rtx-4090"
    assert gpu_name("NVIDIA A100-SXM4-40GB") == "a100-sxm4-40gb"


def test_a_product_that_is_reached_is_told_too() -> None:
    found = record()
    ways = (*found.four_ways.ways[:3], replace(found.four_ways.ways[3], seconds=2.0))
    four = replace(found.four_ways, ways=ways)
    assert "20.0 times sequential" in replace(found, four_ways=four).as_markdown()
