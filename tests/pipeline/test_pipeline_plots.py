"""What a stage leaves to look at: plots and tables in Dagster, pictures beside the report."""

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.pipeline.project import SMALL, Ended, Project, pair, step, texts

NAMES = ["rates", "throughput", "memory", "latency", "batch_sizes", "predictions"]
MOST_BYTES = 400_000


@pytest.fixture(scope="module")
def canary(module_project: Project) -> Ended:
    """A stage of three subjects in which one step rejects everything."""
    steps = [*pair(), step("strict", "Say: {text}", output={"min_chars": 5000})]
    module_project.configure(thresholds={"per_minute": 1, "rejection_rate": 0.2})
    module_project.write_workflow(steps)
    return module_project.materialize("canary-10")


@pytest.fixture(scope="module")
def metadata(canary: Ended, module_project: Project) -> dict[str, dict[str, Any]]:
    """Of the materialization, as Dagster stored it: label -> value."""
    assert canary.code == 1, canary.text
    (row,) = module_project.query(
        "SELECT event FROM public.event_logs WHERE asset_key = :key"
        " AND dagster_event_type = 'ASSET_MATERIALIZATION'",
        key=json.dumps(["review", "results"]),
    )
    assert len(row["event"]) < MOST_BYTES
    event = json.loads(row["event"])["dagster_event"]["event_specific_data"]
    entries = event["materialization"]["metadata_entries"]
    return {entry["label"]: entry["entry_data"] for entry in entries}


@pytest.fixture(scope="module")
def folder(canary: Ended, module_project: Project) -> Path:
    return module_project.output / "review/canary-10"


def test_the_pictures_lie_beside_the_report_which_links_them(folder: Path) -> None:
    report = (folder / "report.md").read_text()
    links = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", report)
    drawn = sorted(path.name for path in (folder / "plots").iterdir())
    assert links
    assert sorted(links) == [f"plots/{name}" for name in drawn]
    for name in drawn:
        data = (folder / "plots" / name).read_bytes()
        assert len(data) < 60_000
        picture = Image.open(io.BytesIO(data))
        assert picture.size == (900, 450)
        assert len(picture.getcolors() or ()) > 5
    missing = set(NAMES) - {name.removesuffix(".png") for name in drawn}
    # The second model is the first one's weights, measured a moment before.
    assert missing == set()


def test_dagster_keeps_the_same_pictures(metadata: dict[str, dict[str, Any]], folder: Path) -> None:
    shown = metadata["plots"]["md_str"]
    found = re.findall(r"\(data:image/png;base64,([^)]+)\)", shown)
    files = {path.read_bytes() for path in (folder / "plots").iterdir()}
    assert {base64.b64decode(text) for text in found} == files
    assert "(plots/" not in metadata["report"]["md_str"], "no link that leads nowhere"


def test_what_the_plots_show_stands_there_as_text(metadata: dict[str, dict[str, Any]]) -> None:
    text = metadata["plots"]["md_str"]
    assert "Draft 0 rejected and 0 failed of 3; strict 3 rejected and 0 failed of 3" in text
    assert "9 interactions in " in text, "all that ended, none lost between spans"
    assert "9 interactions in batches of " in text


def test_tables_by_step_and_model(metadata: dict[str, dict[str, Any]]) -> None:
    steps = {row["data"]["step"]: row["data"] for row in metadata["per step"]["records"]}
    assert set(steps) == {"draft", "polish", "strict"}
    assert steps["strict"] | {"rejected": 3, "rejected %": 100.0} == steps["strict"]
    assert steps["polish"]["completed"] == 3
    models = {row["data"]["model"]: row["data"] for row in metadata["per model"]["records"]}
    assert (models[SMALL]["attempted"], models[SMALL]["rejected %"]) == (6, 50.0)


def test_every_subject_has_its_outcome_and_the_command_that_tells_its_story(
    metadata: dict[str, dict[str, Any]], module_project: Project
) -> None:
    table = metadata["subject outcomes"]["md_str"]
    assert table.startswith("3 of 3 subjects")
    assert table.count("| rejected | strict &#40;truncated&#41; | forge trace s") == 3
    told = module_project.forge("trace", "s0")
    assert told.code == 0
    assert "# Subject `s0`" in told.out


def test_a_stage_with_nothing_to_plot_says_so(project: Project) -> None:
    """No prompt could be made, so no model was asked; no picture is an empty one."""
    project.write_subjects([*texts(6), {"key": "s6", "text": "x", "more": "y"}])
    project.write_workflow([step("draft", "{more}")])
    assert project.materialize("canary-10").code == 1
    folder = project.output / "review/canary-10"
    report = (folder / "report.md").read_text()
    assert "### Latency\n\nNothing was answered." in report
    assert "### Batch sizes\n\nNo answer says in which batch it was made." in report
    assert "### Predicted and real\n\nNothing was predicted" in report
    drawn = {path.stem for path in (folder / "plots").iterdir()}
    assert drawn.isdisjoint({"latency", "batch_sizes", "predictions"})
    assert "rates" in drawn


def test_a_plot_that_fails_never_fails_the_stage(project: Project) -> None:
    """matplotlib refuses to be imported with a backend that there is none of."""
    ended = project.materialize("canary-10", MPLBACKEND="no such backend")
    assert ended.code == 0, ended.text
    folder = project.output / "review/canary-10"
    assert (folder / "results.parquet").exists()
    report = (folder / "report.md").read_text()
    assert "](plots/" not in report
    assert "Not drawn: ValueError" in report
    assert "the plot rates was not drawn: ValueError" in ended.text
