"""docs/first-hour.md, block by block as it is written."""

import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.docs_blocks import ROOT, Block, Ran, Reader, blocks, same

PAGE = ROOT / "docs/first-hour.md"
SHELL = [block for block in blocks(PAGE, "sh") if not block.by_hand]


@dataclass(frozen=True)
class Hour:
    """The blocks that ran, by the line where they begin, and the folder of the reader's files."""

    ran: dict[int, Ran]
    shop: Path


@pytest.fixture(scope="module")
def hour(
    module_postgres_url: str, weights_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Hour:
    reader = Reader(tmp_path_factory.mktemp("reader"), module_postgres_url, weights_cache)
    ran: dict[int, Ran] = {}
    for block in SHELL:
        ended = reader.run(block.text)
        ran[block.line] = ended
        print(f"line {block.line}: exit {ended.code} after {ended.seconds:.1f} s")
        if ended.code != block.exit_code:
            break
    return Hour(ran, reader.clone / "mine/shop")


@pytest.mark.parametrize("block", SHELL, ids=lambda block: f"line {block.line}")
def test_a_block_runs_as_written(hour: Hour, block: Block) -> None:
    assert block.line in hour.ran, "a block before it failed"
    ended = hour.ran[block.line]
    assert ended.code == block.exit_code, ended.text
    assert "Traceback" not in ended.text


@pytest.mark.parametrize("block", blocks(PAGE, "text"), ids=lambda block: f"line {block.line}")
def test_what_the_page_shows_is_what_was_said(hour: Hour, block: Block) -> None:
    before = max(line for line in hour.ran if line < block.line)
    said = same(hour.ran[before].text)
    for line in block.text.splitlines():
        assert same(line) in said, f"{line}\nis not in\n{hour.ran[before].text}"


def test_the_mended_step_alone_was_made_again(hour: Hour) -> None:
    folder = hour.shop / "output/reviews/canary-10"
    assert json.loads((folder / "report.json").read_text())["verdict"] == "passed"
    table = pq.read_table(folder / "results.parquet").to_pydict()
    assert table["key"] == [f"R-{number:02}" for number in range(1, 11)]
    assert set(table["mood.output"]) <= {"happy", "angry"}
    assert all(table["reply.output"])
