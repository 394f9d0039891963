"""README and docs say what is so: commands run, links resolve, names and keys are the code's."""

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest

from forge_assets import config
from forge_assets.stages import build_stages, stage_named
from resources import launch_state, store_schema
from resources.cloud.regions import REGIONS
from tests.docs_blocks import ROOT, Ran, Reader, blocks

README = ROOT / "README.md"
WORKFLOWS = ROOT / "docs/workflows.md"
LAUNCHES = ROOT / "docs/launches.md"
PAGES = [README, *sorted(ROOT.joinpath("docs").rglob("*.md"))]
CODE = ("forge_assets", "resources", "sensors")
OWN_DATA = "mkdir -p mine"
USAGE_ERRORS = (
    "BadParameter",
    "MissingParameter",
    "NoSuchOption",
    "NoArgsIsHelpError",
    "UsageError",
)

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


# what the pages hold


def prose(page: Path) -> str:
    """Without the fenced blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M)


def spans(page: Path) -> list[str]:
    """Inline code."""
    return re.findall(r"`([^`\n]+)`", prose(page))


def shell_blocks(page: Path) -> list[str]:
    return [block.text for block in blocks(page, "sh")]


def commands(lines: Iterable[str]) -> list[list[str]]:
    """The forge, make and dagster commands among the lines."""
    ours = [line for line in lines if line.startswith(("forge ", "make ", "dagster "))]
    return [shlex.split(line, comments=True) for line in ours]


def shell_commands(page: Path) -> list[list[str]]:
    """Those of the blocks, here-documents left out."""
    blocks = [
        re.sub(r"<<'END'\n.*?^END$", "", block, flags=re.S | re.M) for block in shell_blocks(page)
    ]
    return commands(line for block in blocks for line in block.splitlines())


def headings(page: Path) -> set[str]:
    """Anchors as GitHub makes them."""
    found = re.findall(r"^#+ (.+)$", prose(page), flags=re.M)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in found}


def rows(page: Path, heading: str) -> list[dict[str, str]]:
    """The first table below a heading, as cells by column name."""
    section = re.split(rf"^#+ {re.escape(heading)}$", page.read_text(), flags=re.M)[1]
    lines = re.split(r"^#+ ", section, flags=re.M)[0].splitlines()
    table = [line.strip("|").split(" | ") for line in lines if line.startswith("|")]
    cells = [[cell.strip() for cell in line] for line in table]
    return [dict(zip(cells[0], line, strict=True)) for line in cells[2:]]


def plain(cell: str) -> str:
    return cell.strip("`")


@cache
def source_text() -> str:
    files = [ROOT / "Makefile", ROOT / "dagster.yaml", ROOT / "pyproject.toml"]
    files += [ROOT / "deploy/compose.yaml", *ROOT.glob("deploy/*/dagster.yaml")]
    files += [path for folder in CODE for path in sorted((ROOT / folder).rglob("*.py"))]
    files = [path for path in files if not path.is_relative_to(ROOT / "forge_assets/reference")]
    return "\n".join(path.read_text() for path in files)


# links and names


@each_page
def test_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("https://", "http://")):
            continue
        name, _, anchor = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        assert linked.exists(), f"{page.name} links to {target}"
        assert linked.is_relative_to(ROOT), f"{page.name} links out of the repository: {target}"
        assert not anchor or anchor in headings(linked), f"{page.name} links to {target}"


@each_page
def test_paths_exist(page: Path) -> None:
    """A span is a path of ours when it ends in .py or begins with an entry of the root."""
    entries = {entry.name for entry in ROOT.iterdir()}
    for span in spans(page):
        if not re.fullmatch(r"[\w./-]+", span):
            continue
        ours = "/" in span and span.split("/")[0] in entries - {"output"}
        if ours or span.endswith(".py"):
            assert (ROOT / span).exists(), f"{page.name} names {span}"


@each_page
def test_modules_classes_and_functions_exist(page: Path) -> None:
    for span in spans(page):
        if re.fullmatch(rf"({'|'.join(CODE)})(\.\w+)+", span):
            path = ROOT / span.replace(".", "/")
            assert path.is_dir() or path.with_suffix(".py").exists(), f"{page.name} names {span}"
        elif found := re.fullmatch(r"([A-Z][a-z]+[A-Z]\w+)(?:\.(\w+))?", span):
            for name in filter(None, found.groups()):
                assert re.search(rf"\b{name}\b", source_text()), f"{page.name} names {span}"
        elif found := re.fullmatch(r"(\w+)\(.*\)", span):
            assert f"def {found[1]}(" in source_text(), f"{page.name} names {span}"


@each_page
def test_environment_variables_are_read_somewhere(page: Path) -> None:
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").glob("*/*.py"))
    for name in re.findall(r"\b((?:DAGSTER|FORGE|XDG|HF)_[A-Z_]+)\b", page.read_text()):
        assert name in source_text() + tests, f"{page.name} names {name}"


@each_page
def test_tables_exist(page: Path) -> None:
    known = {table.name for table in store_schema.metadata.tables.values()}
    migrations = "".join(
        path.read_text() for path in (ROOT / "resources/migrations/versions").glob("0*.py")
    )
    known |= set(re.findall(r"CREATE VIEW forge\.(\w+)", migrations))
    for name in re.findall(r"`forge\.(\w+)`", page.read_text()):
        assert name == "yaml" or name in known, f"{page.name} names forge.{name}"


# commands


@each_page
def test_commands_of_shell_blocks_are_command_lines(page: Path) -> None:
    for words in shell_commands(page):
        if words[0] == "make":
            assert_target(words[1])
        else:
            parse(words)


@each_page
def test_commands_in_the_text_exist(page: Path) -> None:
    """A command that is only named, without options, need not be complete."""
    for words in commands(spans(page)):
        if words[0] == "make":
            assert_target(words[1])
        elif any(word.startswith("-") for word in words):
            parse(words)
        else:
            find_command(words)


def assert_target(name: str) -> None:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    command = ["make", "--dry-run", "--always-make", name]
    ended = subprocess.run(
        command, cwd=ROOT, env=inherited, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout, f"make {name} does nothing"


def find_command(words: Sequence[str]) -> tuple[Any, list[str]]:
    """The command and its arguments. Typer brings a click of its own, Dagster uses click."""
    if words[0] == "forge":
        import typer.main

        from forge_assets.cli.main import app

        command: Any = typer.main.get_command(app)
    else:
        from dagster._cli import create_dagster_cli

        command = create_dagster_cli()
    arguments = list(words[1:])
    while hasattr(command, "get_command"):
        command = command.get_command(None, arguments.pop(0))
        assert command is not None, f"no such command: {shlex.join(words)}"
    return command, arguments


def parse(words: Sequence[str]) -> dict[str, Any]:
    """The parsed options; nothing is executed."""
    command, arguments = find_command(words)
    try:
        with command.make_context(words[0], arguments) as context:
            return dict(context.params)
    except Exception as error:
        if type(error).__name__ not in USAGE_ERRORS:
            raise
        raise AssertionError(f"{shlex.join(words)}: {error}") from None


@each_page
def test_stages_in_shell_blocks_exist(page: Path) -> None:
    default = config.ConfigFile.model_fields
    stages = build_stages(default["stages"].default, default["batches"].default)
    for block in shell_blocks(page):
        for key in re.findall(r"--(?:stage|partition) (\S+)", block):
            stage_named(stages, key)


def test_the_dagster_command_selects_what_forge_runs() -> None:
    import dagster as dg

    from forge_assets.definitions import defs

    found = [words for words in shell_commands(README) if words[0] == "dagster"]
    assert found
    graph = defs.resolve_asset_graph()
    for words in found:
        given = parse(words)
        selected = dg.AssetSelection.from_string(given["select"]).resolve(graph)
        demo = {key for key in graph.get_all_asset_keys() if key.path[0] == "api_review"}
        assert selected == demo | {dg.AssetKey("subjects"), dg.AssetKey("model_weights")}


# the user's own data, as the README tells it


@dataclass(frozen=True)
class Told:
    """The README's block about own data after it ran."""

    ran: Ran
    folder: Path


@pytest.fixture(scope="module")
def told(
    module_postgres_url: str, weights_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Told:
    (block,) = [block for block in shell_blocks(README) if block.startswith(OWN_DATA)]
    reader = Reader(tmp_path_factory.mktemp("newcomer"), module_postgres_url, weights_cache)
    return Told(reader.run(block), reader.clone)


def test_own_data_runs_as_written(told: Told) -> None:
    assert told.ran.code == 0, told.ran.text
    for sentence in ("GO for canary-10", "canary-10: passed", "# triage, canary-10: passed"):
        assert sentence in told.ran.out
    assert "# Subject `T-1`" in told.ran.out
    assert "Traceback" not in told.ran.err


def test_own_data_leaves_its_results_beside_the_configuration(told: Told) -> None:
    import pyarrow.parquet as pq

    folder = told.folder / "mine/output/triage/canary-10"
    assert json.loads((folder / "report.json").read_text())["verdict"] == "passed"
    table = pq.read_table(folder / "results.parquet").to_pydict()
    assert table["key"] == ["T-1", "T-2", "T-3"]
    assert set(table["kind.output"]) <= {"bug", "wish", "billing"}


# the reference is made from the code: tests/test_reference.py


def test_every_outcome_of_a_launch_is_told() -> None:
    named = [cell for row in rows(LAUNCHES, "Outcomes") for cell in row["outcome"].split(", ")]
    assert sorted(map(plain, named)) == sorted(get_args(launch_state.Outcome))


def test_every_section_links_to_its_keys() -> None:
    """The sections of the reference, from where the pages tell how to use them."""
    linked = set()
    for page in (WORKFLOWS, LAUNCHES):
        linked |= set(re.findall(r"\]\(reference/([\w-]+\.md#[\w-]+)\)", prose(page)))
    for name in ("workflow.md", "forge-yaml.md"):
        found = re.findall(r"^## (.+)$", prose(ROOT / "docs/reference" / name), flags=re.M)
        for heading in found:
            assert f"{name}#{heading.lower().replace(' ', '-')}" in linked


def test_the_number_of_regions_that_are_watched() -> None:
    assert f"looks at {len(REGIONS)} regions" in " ".join(LAUNCHES.read_text().split())
    assert f"over {len(REGIONS)} regions" in LAUNCHES.read_text()
