"""deploy/Dockerfile: its stages, what they copy, and that the project works on what is copied alone."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.deploy.images import build, context, copied, ignored, stages
from tests.pipeline.project import ROOT, Project

TARGETS = pytest.mark.parametrize("target", ["cpu", "cuda"])
SOURCE = "/opt/forge"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """/opt/forge of the images."""
    folder = tmp_path_factory.mktemp("image")
    build(stages()["source"], folder)
    return folder


def dependencies() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return list(project["dependencies"])


def test_the_stages_are_a_base_and_two_targets() -> None:
    found = stages()
    assert list(found) == ["base", "requirements", "source", "cpu", "cuda"]
    assert {stage.base for name, stage in found.items() if name != "base"} == {"base"}
    # As the tests' Python, and a patch of it.
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", found["base"].base)


def test_only_what_exists_is_copied_and_nothing_private_is_sent() -> None:
    sent = {path.as_posix() for path in context()}
    for stage in stages().values():
        for sources, _ in copied(stage):
            for source in sources:
                assert any(path == source or path.startswith(f"{source}/") for path in sent), source
    spec = ignored()
    private = ["deploy/.env", ".env", "mine/forge.yaml", "output/a.parquet", ".git/config"]
    private += ["storage/x", "logs/y", "tests/conftest.py", ".venv/bin/python", "key.json"]
    assert [path for path in private if not spec.match_file(path)] == []
    assert not any("__pycache__" in path for path in sent)


def test_the_image_of_the_runner_is_sent_what_it_copies() -> None:
    spec = ignored()
    dockerfile = ROOT / "deploy" / "runner" / "Dockerfile"
    lines = re.findall(r"^COPY (.+)$", dockerfile.read_text(), re.M)
    sources = [source for line in lines for source in line.split()[:-1]]
    files = [path.relative_to(ROOT) for source in sources for path in ROOT.glob(source)]
    assert files
    assert [path for path in files if spec.match_file(path.as_posix())] == []


def test_the_requirements_are_those_of_the_project(image: Path, tmp_path: Path) -> None:
    (command,) = stages()["requirements"].all("RUN")
    (tmp_path / "pyproject.toml").write_text((image / "pyproject.toml").read_text())
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["sh", "-c", command], cwd=tmp_path, env={"PATH": path}, check=True)
    assert (tmp_path / "requirements.txt").read_text().splitlines() == dependencies()


@TARGETS
def test_everything_is_installed_under_the_constraints(target: str) -> None:
    stage = stages()[target]
    installs = [words.strip() for run in stage.all("RUN") for words in re.split(r"&&|\|\|", run)]
    installs = [words for words in installs if words.startswith("pip install")]
    assert any("-r requirements.txt" in words for words in installs)
    assert "constraints.txt ./" in stage.all("COPY")
    for words in installs:
        assert "-c constraints.txt" in words or words == "pip install --no-deps -e .", words


def test_torch_without_cuda_comes_first_and_alone() -> None:
    (run,) = [run for run in stages()["cpu"].all("RUN") if "requirements.txt" in run]
    first, second = run.split("&&")
    assert '${TORCH_INDEX:+--no-deps --index-url "$TORCH_INDEX"}' in first
    assert "TORCH_INDEX=" in stages()["cpu"].all("ARG")
    assert first.split()[-1] == "torch"
    assert "-r requirements.txt" in second
    # Without a local part the pin is met by PyPI's torch and by that of the other index.
    pin = re.findall(r"^torch==(.+)$", (ROOT / "constraints.txt").read_text(), re.M)
    assert len(pin) == 1
    assert "+" not in pin[0]
    assert "TORCH_INDEX" not in " ".join(stages()["cuda"].all("RUN"))


@pytest.mark.skipif(
    "+cpu" not in importlib.metadata.version("torch"), reason="this torch brings CUDA"
)
def test_nothing_that_is_needed_brings_cuda() -> None:
    """All that the project needs, directly or not, when torch is the one of the CPU target."""
    seen: set[str] = set()
    waiting = dependencies()
    while waiting:
        requirement = Requirement(waiting.pop())
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if name in seen or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        seen.add(name)
        waiting += importlib.metadata.requires(name) or []
    assert {"torch", "dagster", "xgrammar"} <= seen
    cuda = {name for name in seen if name.startswith(("nvidia-", "cuda-", "cupy"))}
    assert cuda == {"nvidia-ml-py"}


@TARGETS
def test_it_does_not_run_as_root_and_holds_no_secret(target: str) -> None:
    base, stage = stages()["base"], stages()[target]
    assert stage.lines[-1] == ("USER", "forge")
    assert "useradd" in " ".join(base.all("RUN"))
    values = " ".join(base.all("ENV") + stage.all("ENV") + base.all("ARG") + stage.all("ARG"))
    assert not re.search(r"PASSWORD|API_KEY|SECRET|TOKEN|DATABASE_URL|CREDENTIALS", values)


def test_what_starts_first_passes_signals_to_all_and_the_command_exists() -> None:
    base = stages()["base"]
    (entry,), (command,) = base.all("ENTRYPOINT"), base.all("CMD")
    # tini, which is installed: a run hears of the end itself.
    assert json.loads(entry) == ["/usr/bin/tini", "-g", "--"]
    assert " tini " in base.all("RUN")[0]
    program, name = json.loads(command)
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert program in scripts
    ended = subprocess.run(
        [sys.executable, "-m", scripts[program].split(":")[0], name, "--help"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    assert ended.returncode == 0


def test_the_homes_of_dagster_are_links_to_what_is_copied(image: Path, tmp_path: Path) -> None:
    """The base's shell commands for them, run with the image's places elsewhere."""
    (run,) = stages()["base"].all("RUN")
    homes = run[run.index("for home in") :].replace("--owner forge --group forge ", "")
    homes = homes.replace("/var/lib/forge", str(tmp_path)).replace(SOURCE, str(image))
    subprocess.run(["sh", "-euc", homes], check=True)
    linked = {path.name: (path / "dagster.yaml").resolve() for path in tmp_path.iterdir()}
    assert linked == {name: image / "deploy" / name / "dagster.yaml" for name in ("host", "gcp")}
    assert all(path.exists() for path in linked.values())
    environment = dict(
        pair.split("=") for pair in " ".join(stages()["base"].all("ENV")).split() if "=" in pair
    )
    assert environment["DAGSTER_HOME"] == "/var/lib/forge/host"


def test_the_package_can_be_made_of_what_is_copied(image: Path, tmp_path: Path) -> None:
    """Its metadata names the README and the licence."""
    code = (
        "import sys; from setuptools.build_meta import prepare_metadata_for_build_editable as make"
    )
    code += "; print(make(sys.argv[1]))"
    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=image,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    metadata = tmp_path / ended.stdout.splitlines()[-1] / "METADATA"
    assert "Name: forge-assets" in metadata.read_text()


ALONE = """
import runpy, sys
from pathlib import Path
def of_project(entry):
    return Path(entry or ".", "forge_assets").exists()
sys.path[:] = [sys.argv[1], *(entry for entry in sys.path if not of_project(entry))]
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in str(finder).lower()]
sys.argv[:] = ["forge", "status", "--json"]
try:
    runpy.run_module("forge_assets.cli.main", run_name="__main__")
finally:
    import forge_assets.definitions as loaded
    print(loaded.__file__, len(loaded.defs.resolve_all_asset_specs()), file=sys.stderr)
"""


def test_the_project_works_on_what_is_copied_alone(image: Path, project: Project) -> None:
    environment = project.environment | {"DAGSTER_HOME": str(image / "deploy" / "host")}
    environment.pop("PYTHONPATH")
    ended = subprocess.run(
        [sys.executable, "-c", ALONE, str(image)],
        cwd=project.folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["stages"][0]["partition"] == "canary-10"
    place, number = ended.stderr.split()[-2:]
    assert Path(place).is_relative_to(image)
    assert int(number) > 10
