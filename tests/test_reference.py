"""docs/reference and docs/schemas are what the code says, and the code says something of every key."""

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
import typer.main

from forge_assets.cli import exit_codes
from forge_assets.cli.main import app
from forge_assets.config import ConfigFile, project_root
from forge_assets.reference import variables
from forge_assets.reference.files import reference_files
from forge_assets.reference.json_schema import file_schema
from forge_assets.reference.sections import Section, Sections, paragraph
from forge_assets.reference.workflow_words import ERROR_CLASSES, OPERATORS
from forge_assets.workflow.steps import Operator, WorkflowFile
from resources.interaction import ErrorClass

ROOT = project_root()
FILES = reference_files()
SCHEMAS = {model.__name__: file_schema(model, "") for model in (ConfigFile, WorkflowFile)}
VARIABLE = re.compile(
    r"(?:CUDA|DAGSTER|FORGE|GCE|GOOGLE|GRPC|HF|OMP|VLLM|WANDB|XDG)_[A-Z0-9_]+|[A-Z_]+_EMULATOR_HOST"
)
NO_VARIABLES = {"WANDB_SECONDS"}


@pytest.mark.parametrize("name", FILES)
def test_the_committed_file_is_what_the_code_says(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == FILES[name], "run `make reference`"


def test_nothing_else_lies_there() -> None:
    found = {
        str(path.relative_to(ROOT))
        for folder in ("docs/reference", "docs/schemas")
        for path in (ROOT / folder).iterdir()
    }
    assert found == set(FILES)


# keys


def definitions(schema: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield "the file", schema
    yield from schema["$defs"].items()


@pytest.mark.parametrize("file", SCHEMAS)
def test_every_section_and_key_has_a_meaning(file: str) -> None:
    for name, definition in definitions(SCHEMAS[file]):
        assert definition["description"], name
        for key, field in definition["properties"].items():
            words = field.get("description", "")
            assert words.endswith("."), f"{name}.{key} has no sentence: Field(description=...)"
            assert "``" not in words, f"{name}.{key}: Markdown, not reStructuredText"


@pytest.mark.parametrize(
    ("file", "page"),
    [
        ("ConfigFile", "docs/reference/forge-yaml.md"),
        ("WorkflowFile", "docs/reference/workflow.md"),
    ],
)
def test_every_section_and_key_stands_on_its_page(file: str, page: str) -> None:
    for _, definition in definitions(SCHEMAS[file]):
        assert paragraph(definition["description"]) in FILES[page]
        for key, field in definition["properties"].items():
            row = re.compile(rf"^\| `{key}` \|.*\| {re.escape(field['description'])} \|$", re.M)
            assert row.search(FILES[page]), key


def test_a_section_without_a_heading_is_not_forgotten() -> None:
    with pytest.raises(KeyError, match="Step"):
        str(Sections(SCHEMAS["WorkflowFile"], [Section("The file", "")]))


def test_every_operator_and_error_class_has_a_meaning() -> None:
    assert list(OPERATORS) == list(get_args(Operator))
    assert list(ERROR_CLASSES) == list(ErrorClass)


def test_error_classes_tell_how_they_end() -> None:
    for each in ErrorClass:
        ends = f"| {'yes' if each.retryable else 'no'} | {each.final_status.value} |"
        assert f"| `{each.value}` {ends}" in FILES["docs/reference/workflow.md"]


def test_durations_are_shown_as_they_are_written() -> None:
    page = FILES["docs/reference/forge-yaml.md"]
    assert "| `gate_wait` | seconds or duration | `6h` |" in page
    assert "| `samples` | seconds or duration | `30d` |" in page


# the command


def test_every_command_and_option_stands_on_the_page() -> None:
    page = FILES["docs/reference/cli.md"]
    commands: Mapping[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name, command in commands.items():
        section = page.split(f"\n## forge {name}\n")[1].split("\n## ")[0]
        assert command.help.splitlines()[0] in section
        for parameter in command.params:
            assert parameter.help, f"{name} {parameter.name} has no help"
            assert parameter.help in section
            if parameter.param_type_name == "option":
                assert all(f"`{option}" in section for option in parameter.opts)


def test_every_exit_code_has_a_meaning() -> None:
    named = {
        value for key, value in vars(exit_codes).items() if key.isupper() and key != "MEANINGS"
    }
    assert set(exit_codes.MEANINGS) == {0, 1, 2} | named


# the environment


@cache
def trees() -> Mapping[Path, ast.Module]:
    paths = [
        path
        for folder in ("forge_assets", "resources", "sensors", "deploy")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not path.is_relative_to(ROOT / "forge_assets/reference")
    ]
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def texts() -> Iterator[tuple[Path, str]]:
    """Every text constant of the code."""
    for path, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield path, node.value


def read_by_name() -> Iterator[tuple[Path, str]]:
    """``environ.get("X")``, ``environment["X"]`` and their like."""
    for path, tree in trees().items():
        for node in ast.walk(tree):
            match node:
                case (
                    ast.Subscript(value=place, slice=ast.Constant(value=str(name)))
                    | ast.Call(
                        func=ast.Attribute(value=place), args=[ast.Constant(value=str(name)), *_]
                    )
                ) if re.search(r"environ(ment)?$", ast.unparse(place)):
                    yield path, name


def attributes() -> Iterator[str]:
    for tree in trees().values():
        yield from (node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute))


def test_every_variable_that_the_code_reads_has_a_meaning() -> None:
    told = set(variables.READ_HERE) | set(variables.LIBRARIES) | NO_VARIABLES
    for path, name in read_by_name():
        assert name in told, f"{path.relative_to(ROOT)} reads {name}"
    for path, text in texts():
        assert not VARIABLE.fullmatch(text) or text in told, f"{path.relative_to(ROOT)}: {text}"


def test_no_variable_is_told_that_nothing_reads() -> None:
    assert set(variables.READ_HERE) <= {text for _, text in texts()}


def test_the_scan_finds_what_is_read() -> None:
    found = {name for _, name in read_by_name()}
    assert {"FORGE_CONFIG", "FORGE_CACHE", "DAGSTER_HOME", "WANDB_API_KEY"} <= found
    assert not any(name == "getenv" for name in attributes()), "read os.environ: it is looked for"


# cost


def test_nothing_that_works_imports_the_reference() -> None:
    for path, tree in trees().items():
        for node in ast.walk(tree):
            named = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            named += [each.name for each in node.names] if isinstance(node, ast.Import) else []
            assert not any(each.startswith("forge_assets.reference") for each in named), path
