import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from forge_assets.config import Thresholds
from forge_assets.interactions.report import (
    StageReport,
    examples_markdown,
    read_stage_report,
    stage_report_json,
    stage_report_markdown,
)
from forge_assets.interactions.stages_report import (
    Baselines,
    read_baselines,
    stages_report_json,
    stages_report_markdown,
)
from forge_assets.markdown import visible
from resources.database import create_engine
from resources.interaction_store import InteractionStore
from resources.machine_limits import Limits
from resources.stage_counts import StageCounts
from resources.store_types import StepCounts
from tests.interactions.worked_stage import CANARY, DATASET, HOSTILE, VERSIONS, WORKFLOW, work_stage

PARSER = MarkdownIt("commonmark").enable("table")
THRESHOLDS = Thresholds(per_minute=1)
PASSED = StageCounts(
    "canary-10",
    first=0,
    end=10,
    subjects=10,
    steps=4,
    completed=30,
    rejected=2,
    skipped=8,
    working_seconds=16.0,
    worked=32,
    finished_subjects=10,
    model_loads=2,
)
FAILED = replace(PASSED, partition="ramp-50", first=10, end=60, completed=20, rejected=10, failed=2)
EMPTY = StageCounts("full-500", first=60, end=560, steps=4)


@pytest.fixture(scope="module")
def report(module_postgres_url: str) -> Iterator[StageReport]:
    engine = create_engine(module_postgres_url)
    store = InteractionStore(engine)
    work_stage(store)
    counts = store.stage_counts(DATASET, WORKFLOW, VERSIONS)[0]
    yield read_stage_report(store, CANARY, counts, THRESHOLDS, Limits())
    engine.dispose()


def cells(markdown: str, heading: str) -> dict[str, list[str]]:
    """The rows of the table under a heading: first cell -> the others."""
    tokens = PARSER.parse(markdown)
    place = next(
        n
        for n, token in enumerate(tokens)
        if token.type == "inline" and token.content == heading and tokens[n - 1].tag in ("h1", "h2")
    )
    rows: list[list[str]] = []
    for n in range(place, len(tokens)):
        if tokens[n].type == "tr_open":
            rows.append([])
        elif tokens[n].type in ("td_open", "th_open"):
            rows[-1].append(tokens[n + 1].content)
        elif tokens[n].type == "table_close":
            break
    return {row[0]: row[1:] for row in rows}


def fences(markdown: str) -> list[str]:
    tokens = PARSER.parse(markdown)
    return [token.content.removesuffix("\n") for token in tokens if token.type == "fence"]


def test_stage_report_of_a_real_store(report: StageReport) -> None:
    markdown = stage_report_markdown(report)
    assert markdown.startswith("# review, canary: failed\n")
    checks = cells(markdown, "Checks")
    assert checks["rejection_rate"] == ["FAILED", "33.3 % (2 of 6), limit 15 %"]
    assert checks["error_rate"] == ["FAILED", "16.7 % (1 of 6), limit 5 %"]
    assert checks["nothing_lost"][0] == "passed"
    assert checks["success_rate"][0] == "warns"
    counts = cells(markdown, "Counts")
    assert counts["interactions"] == ["count", "of 6 (3 subjects x 2 steps)"]
    assert counts["completed"] == ["3", "50.0 %"]
    speed = cells(markdown, "Speed")
    assert speed["seconds per interaction"][1].startswith("6 attempted in ")
    assert speed["seconds per subject"][1].startswith("3 ended in ")
    assert speed["model loads"][0] == "2"
    assert "2 loads of 2 models, 3.0 s" in speed["model loads"][1]


def test_steps_and_models_have_rates_and_tokens(report: StageReport) -> None:
    markdown = stage_report_markdown(report)
    steps = cells(markdown, "Steps")
    named = dict(zip(steps["step"], steps["grade"], strict=True))
    assert (named["model"], named["completed"], named["failed"]) == ("big", "2", "1")
    assert (named["attempted"], named["errors"], named["rejection"]) == ("3", "33.3 %", "0.0 %")
    assert (named["prompt tokens"], named["output tokens"]) == ("40", "15")
    models = cells(markdown, "Models")
    named = dict(zip(models["model"], models["small"], strict=True))
    assert (named["completed"], named["rejected"], named["rejection"]) == ("1", "2", "66.7 %")


def test_what_has_not_ended_is_open(report: StageReport) -> None:
    steps = (StepCounts("summarize", "small", pending=2, running=1, completed=4),)
    rows = cells(stage_report_markdown(replace(report, steps=steps)), "Steps")
    named = dict(zip(rows["step"], rows["summarize"], strict=True))
    assert (named["open"], named["attempted"], named["p50 s"]) == ("3", "4", "-")


def test_resources_are_judged_with_figures(report: StageReport) -> None:
    markdown = stage_report_markdown(report)
    assert "- samples: 8 in 1 runs" in markdown
    assert "- most connections: 12 of 100" in markdown
    assert "- least memory available: 12.0 of 16.0 GB" in markdown
    judged = cells(markdown, "Machine")
    assert judged["db connections"] == ["ok", "peak 12 of 100 (12 %) over 8 samples, limit 80 %"]
    assert judged["gpu utilisation"][0] == "not applicable"
    assert judged["memory growth"][0] == "ok"


def test_rejections_and_failures_are_told_in_full(report: StageReport) -> None:
    markdown = stage_report_markdown(report)
    found = fences(markdown)
    assert found.count("shorter than min_chars") == 3, "two examples and one class"
    assert found.count(visible(f"out of memory\n{HOSTILE}")) == 1
    assert visible(f"out of c\n{HOSTILE}") in found
    assert "**contract** (rejected): 33.3 % of the attempted (2 of 6)" in markdown
    assert "**oom** (failed): 16.7 % of the attempted (1 of 6)" in markdown
    assert "``b `tick` | pipe``" in markdown
    assert "\x1b" not in markdown
    headings = [token.tag for token in PARSER.parse(markdown) if token.type == "heading_open"]
    assert headings.count("h1") == 1
    assert fences(examples_markdown(report.rejections)) == [
        text
        for key in ("b `tick` | pipe", "c")
        for text in ("shorter than min_chars", visible(f"out of {key}\n{HOSTILE}"))
    ]


def test_stage_report_as_json(report: StageReport) -> None:
    data = json.loads(json.dumps(stage_report_json(report)))
    assert (data["stage"], data["verdict"]) == ("canary", "failed")
    assert data["counts"]["attempted"] == 6
    assert data["rates"]["rejection_rate"] == pytest.approx(2 / 6)
    assert data["steps"][1]["failed"] == 1
    assert data["resources"]["peaks"]["connections"] == 12
    assert data["worst_rejections"][0]["reason"] == "shorter than min_chars"
    failures = {row["error_class"]: row["count"] for row in data["failures"]}
    assert failures == {"contract": 2, "oom": 1}


def test_a_stage_that_never_ran_has_a_report(report: StageReport) -> None:
    bare = replace(
        report, counts=EMPTY, steps=(), models=(), loads=(), peaks=None, rejections=(), failures=()
    )
    markdown = stage_report_markdown(bare)
    assert "No sample was taken." in markdown
    assert cells(markdown, "Speed")["seconds per interaction"][0] == "-"
    json.dumps(stage_report_json(bare))


def test_stages_side_by_side() -> None:
    thresholds = Thresholds(seconds_per_interaction=0.25)
    stages = [PASSED, FAILED, EMPTY, replace(EMPTY, partition="batch-0001")]
    markdown = stages_report_markdown("review", stages, thresholds, Baselines())
    rows = cells(markdown, "review: all stages")
    columns = rows.pop("stage")
    assert list(rows) == ["target", "canary-10", "ramp-50", "full-500"]
    target = dict(zip(columns, rows["target"], strict=True))
    assert target["rejection"] == "< 15.0 %"
    assert target["interactions a minute"] == "≥ 80"
    assert target["s per interaction"] == "≤ 0.25"
    canary = dict(zip(columns, rows["canary-10"], strict=True))
    assert canary["verdict"] == "passed"
    assert canary["interactions ended"] == "40 of 40"
    assert canary["rejection"] == "6.2 % (2 of 32)"
    assert canary["interactions a minute"] == "120.0 (32 in 16.0 s)"
    assert canary["s per interaction"] == "**0.500 (32 in 16.0 s)**"
    assert canary["s per subject"] == "1.600 (10 in 16.0 s)"
    ramp = dict(zip(columns, rows["ramp-50"], strict=True))
    assert ramp["verdict"] == "failed"
    assert ramp["rejection"] == "**31.2 % (10 of 32)**"
    assert ramp["errors"] == "**6.2 % (2 of 32)**"
    assert ramp["success"] == "**62.5 % (20 of 32)**"
    full = dict(zip(columns, rows["full-500"], strict=True))
    assert (full["verdict"], full["rejection"], full["s per subject"]) == ("empty", "-", "-")
    assert "Measured baseline: not measured yet: make bench." in markdown


def test_throughput_held_to_subjects() -> None:
    thresholds = Thresholds(per_minute=80, per_minute_counts="subjects")
    rows = cells(
        stages_report_markdown("review", [PASSED], thresholds, Baselines()), "review: all stages"
    )
    columns = rows.pop("stage")
    canary = dict(zip(columns, rows["canary-10"], strict=True))
    assert canary["interactions a minute"] == "120.0 (32 in 16.0 s)"
    assert canary["subjects a minute"] == "**37.5 (10 in 16.0 s)**"
    assert dict(zip(columns, rows["target"], strict=True))["subjects a minute"] == "≥ 80"


def test_baselines_come_from_the_bench(tmp_path: Path) -> None:
    baseline = {
        "name": "sequential generate, float32",
        "seconds_per_interaction": 2.5,
        "interactions": 20,
        "device": "cpu, 2 cores",
        "measured_at": "2025-01-01",
    }
    (tmp_path / "cpu.json").write_text(json.dumps({"baselines": [baseline], "ours": {}}))
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "wrong.json").write_text(json.dumps({"baselines": [{**baseline, "device": None}]}))
    (tmp_path / "notes.md").write_text("none")
    baselines = read_baselines(tmp_path)
    assert [one.seconds_per_interaction for one in baselines.measured] == [2.5]
    assert [text.split(":")[0] for text in baselines.unreadable] == ["broken.json", "wrong.json"]
    markdown = stages_report_markdown("review", [PASSED], THRESHOLDS, baselines)
    rows = cells(markdown, "review: all stages")
    found = dict(zip(rows["stage"], rows["baseline 1"], strict=True))
    source = "baseline 1: sequential generate, float32 (20 on cpu, 2 cores, 2025-01-01)"
    assert source in markdown
    assert found["s per interaction"] == "2.500"
    assert found["interactions a minute"] == "24.0"
    assert "not measured yet" not in markdown
    assert "cannot be read: broken.json" in markdown
    data = json.loads(json.dumps(stages_report_json([PASSED, FAILED], THRESHOLDS, baselines)))
    assert data["baselines"] == [baseline]
    assert [stage["verdict"] for stage in data["stages"]] == ["passed", "failed"]
    assert data["targets"]["rejection_rate"] == 0.15
    assert read_baselines(tmp_path / "nowhere") == Baselines()
