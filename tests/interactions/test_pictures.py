"""The six plots of a stage together: from a real store to files and Dagster's metadata."""

import base64
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from markdown_it import MarkdownIt

from forge_assets.config import Thresholds
from forge_assets.interactions.pictures import (
    EMBEDDED_BYTES,
    Picture,
    embedded,
    keep_pictures,
    linked,
    stage_pictures,
)
from forge_assets.interactions.report import StageReport, read_stage_report
from forge_assets.interactions.results_metadata import results_metadata, whole_sections
from resources.database import create_engine
from resources.interaction_store import InteractionStore
from resources.machine_limits import Limits
from resources.picture_reads import PictureReads
from tests.interactions.worked_stage import CANARY, DATASET, RUN, VERSIONS, WORKFLOW, work_stage

NAMES = ["rates", "throughput", "memory", "latency", "batch_sizes", "predictions"]
PIXEL = b"\x89PNG\r\n\x1a\nrest"
SOME = [Picture("rates", "Rates", "1 of 2", PIXEL), Picture("memory", "Memory", "no sample", None)]


@pytest.fixture(scope="module")
def engine(module_postgres_url: str) -> Iterator[sa.Engine]:
    engine = create_engine(module_postgres_url)
    work_stage(InteractionStore(engine))
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def report(engine: sa.Engine) -> StageReport:
    store = InteractionStore(engine)
    counts = store.stage_counts(DATASET, WORKFLOW, VERSIONS)[0]
    return read_stage_report(store, CANARY, counts, Thresholds(per_minute=1), Limits())


def drawn(engine: sa.Engine, report: StageReport, said: list[str]) -> list[Picture]:
    return stage_pictures(PictureReads(engine), [RUN], report, Thresholds(), Limits(), said.append)


def write(path: Path, put: Callable[[Path], object]) -> None:
    put(path)


def test_what_the_store_holds_is_drawn(engine: sa.Engine, report: StageReport) -> None:
    said: list[str] = []
    found = drawn(engine, report, said)
    assert said == []
    assert [picture.name for picture in found] == NAMES
    by_name = {picture.name: picture for picture in found}
    assert by_name["rates"].summary == (
        "summarize 2 rejected and 0 failed of 3; grade 0 rejected and 1 failed of 3"
    )
    assert by_name["memory"].summary == "host at most 4.0 of 16.0 GB"
    assert by_name["throughput"].summary.startswith("6 interactions in ")
    assert by_name["latency"].png is not None
    assert by_name["batch_sizes"].png is None, "these answers name no batch"


def test_a_stage_that_did_nothing_has_reasons_and_no_pictures(
    engine: sa.Engine, report: StageReport
) -> None:
    nothing = replace(report, scope=replace(CANARY, first=6, end=9), steps=(), residencies=())
    found = stage_pictures(PictureReads(engine), [], nothing, Thresholds(), Limits(), print)
    assert [picture.png for picture in found] == [None] * 6
    section = linked(found, "plots")
    assert "![" not in section
    assert "### Memory\n\nNo sample of the machine was taken." in section


def test_a_plot_that_fails_is_a_sentence(engine: sa.Engine, report: StageReport) -> None:
    """A limit that no axis can hold: the others are drawn."""
    endless = Thresholds.model_construct(rejection_rate=float("inf"))
    said: list[str] = []
    found = stage_pictures(PictureReads(engine), [RUN], report, endless, Limits(), said.append)
    assert [picture.name for picture in found if picture.png] == ["throughput", "memory", "latency"]
    assert found[0].png is None
    assert found[0].summary.startswith("not drawn: ValueError: ")
    assert said == [f"the plot rates was {found[0].summary}; the results are not touched by it"]


def test_a_read_that_fails_is_a_sentence_too(report: StageReport) -> None:
    away = create_engine("postgresql+psycopg2://nobody@127.0.0.1:1/none")
    said: list[str] = []
    found = drawn(away, report, said)
    assert [picture.name for picture in found if picture.png] == ["rates"]
    assert len(said) == 4, "predictions need no read; there are none"
    assert all("OperationalError" in sentence for sentence in said)


def test_files_are_written_and_old_ones_removed(tmp_path: Path) -> None:
    folder = tmp_path / "plots"
    folder.mkdir()
    (folder / "memory.png").write_bytes(b"of an earlier run")
    (folder / "mine.txt").write_text("a stranger's")
    assert keep_pictures(folder, SOME, write, print) == SOME
    assert sorted(path.name for path in folder.iterdir()) == ["mine.txt", "rates.png"]
    assert (folder / "rates.png").read_bytes() == PIXEL


def test_a_full_disk_is_a_sentence(tmp_path: Path) -> None:
    def full(path: Path, put: Callable[[Path], object]) -> None:
        raise OSError(28, "No space left on device")

    said: list[str] = []
    kept = keep_pictures(tmp_path / "plots", SOME, full, said.append)
    assert [picture.png for picture in kept] == [None, None]
    assert said == ["the plot rates could not be written (No space left on device)"]
    assert "![" not in linked(kept, "plots")


def test_links_are_relative_and_what_is_embedded_is_the_same() -> None:
    assert linked(SOME, "plots") == (
        "## Plots\n\n### Rates\n\n![Rates](plots/rates.png)\n\n1 of 2.\n\n### Memory\n\nNo sample.\n"
    )
    (found,) = re.findall(r"base64,([^)]+)\)", embedded(SOME))
    assert base64.b64decode(found) == PIXEL


def test_too_much_to_embed_is_left_to_the_files() -> None:
    large = [Picture(f"p{n}", "P", "much", bytes(60_000)) for n in range(6)]
    text = embedded(large)
    assert len(text) < EMBEDDED_BYTES + 2_000
    assert text.count("data:image/png") == 3
    assert "Much (see plots/p5.png)." in text


def test_a_name_in_a_summary_is_no_markup() -> None:
    hostile = "__a__ [l](http://x) `c` *b* <script> ![i](j)"
    (token,) = [
        token
        for token in MarkdownIt("commonmark").parse(linked([Picture("a", "T", hostile, None)], "p"))
        if token.type == "inline" and "script" in token.content
    ]
    assert {child.type for child in token.children or ()} <= {"text", "text_special"}
    assert "".join(child.content for child in token.children or ()) == f"{hostile}."


def test_a_materialization_is_bounded(report: StageReport, tmp_path: Path) -> None:
    rows = [
        {
            "key": f"{n} " + "k|" * 300,
            "steps": {"summarize": {"interaction_id": n, "status": "failed", "error_class": "oom"}},
        }
        for n in range(3_000)
    ]
    large = [Picture(f"p{n}", "P", "much", bytes(60_000)) for n in range(6)]
    markdown = "# head\n\n" + "## part\n\ntext\n\n" * 40_000
    metadata = results_metadata(report, markdown, rows, large, tmp_path)
    texts = [value.value for value in metadata.values() if hasattr(value, "md_str")]
    assert len(texts) == 3
    assert sum(map(len, texts)) < 400_000
    assert whole_sections("short") == "short"
    assert whole_sections("# a\n\n## b\n\n## c" + "x" * 90, 20).startswith(
        "# a\n\n## b\n\nThe rest"
    )
