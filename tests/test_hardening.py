"""What is open to others, and what is pinned: read from the files that decide it."""

import re
from pathlib import Path

import pytest
import yaml

from forge_assets.config import project_root
from tests.audit import CONSTRAINTS, deviations, pins

ROOT = project_root()
DOCUMENTS = [ROOT / "README.md", ROOT / "Makefile", *sorted((ROOT / "docs").rglob("*.md"))]
YAML = [ROOT / "dagster.yaml", ROOT / "workspace.yaml"]


def test_the_webserver_listens_on_this_machine_alone() -> None:
    recipe = re.search(r"^dev:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    assert re.search(r"dagster\"? dev .*--host 127\.0\.0\.1\b", recipe[1])


@pytest.mark.parametrize("path", [*DOCUMENTS, *YAML], ids=lambda path: path.name)
def test_no_document_opens_it_to_the_network(path: Path) -> None:
    text = path.read_text()
    assert "0.0.0.0" not in text
    for command in re.findall(r"dagster(?:-webserver|\"? dev)[^\n`]*", text):
        host = re.search(r"(?:--host|-h)[ =](\S+)", command)
        assert host is None or host[1] == "127.0.0.1", command


def test_dagster_itself_defaults_to_this_machine() -> None:
    """`dagster dev` without --host, as a user types it."""
    from dagster_webserver.cli import DEFAULT_WEBSERVER_HOST

    assert DEFAULT_WEBSERVER_HOST == "127.0.0.1"


def test_every_constraint_is_one_version() -> None:
    names = [name for name, _ in pins(CONSTRAINTS.read_text())]
    assert len(names) == len(set(names)) > 50
    with pytest.raises(ValueError, match="pins no version"):
        list(pins("torch>=2"))


def test_another_version_than_the_pinned_one_is_told() -> None:
    assert deviations("pytest==0.0.1\nnot-installed-at-all==1") == [
        f"pytest: {pytest.__version__} is installed, constraints.txt pins 0.0.1"
    ]
    assert deviations(f"PyTest=={pytest.__version__}+cpu  # a local build") == []


def test_the_audit_runs_every_week_and_when_a_pin_changes() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/audit.yml").read_text())
    when = workflow[True]  # YAML 1.1 reads "on" as true
    assert when["schedule"]
    assert when["push"]["paths"] == ["constraints.txt"]
    commands = [step.get("run", "") for step in workflow["jobs"]["audit"]["steps"]]
    assert any(
        command.startswith("pip-audit --requirement constraints.txt") for command in commands
    )
