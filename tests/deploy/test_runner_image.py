"""The image holds what the wrapper needs, and the wrapper needs no more of the project than that."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "runner"
DOCKERFILE = (FOLDER / "Dockerfile").read_text(encoding="utf-8")


def copies() -> Iterator[tuple[list[str], str]]:
    """Sources as written and the place of every COPY."""
    for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE):
        *sources, place = line.split()
        yield sources, place


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The files of the project that the image holds, in its folder."""
    for sources, place in copies():
        for source in sources:
            for found in ROOT.glob(source):
                target = tmp_path / place
                target = target / found.name if place.endswith("/") else target
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(found, target)
    return tmp_path


def test_all_that_is_copied_exists() -> None:
    sources = [source for some, _ in copies() for source in some]
    assert sources
    assert [source for source in sources if not list(ROOT.glob(source))] == []


def test_all_is_pinned() -> None:
    assert re.search(r"^FROM --platform=linux/amd64 python:3\.\d+\.\d+-slim-\w+$", DOCKERFILE, re.M)
    lines = (FOLDER / "requirements.txt").read_text(encoding="utf-8").splitlines()
    packages = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+(\[launch\])?==[\w.]+", line) for line in packages)
    names = {re.split(r"[\[=]", line)[0] for line in packages}
    assert {"wandb", "google-cloud-aiplatform", "google-cloud-compute"} <= names


def test_what_the_project_has_too_is_of_the_same_version() -> None:
    tested = set((ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines())
    for name in ("google-cloud-aiplatform", "pydantic", "PyYAML"):
        (pin,) = re.findall(rf"^{name}==.+$", (FOLDER / "requirements.txt").read_text(), re.M)
        assert pin in tested


ALONE = """
import runpy, sys
from pathlib import Path
def of_project(entry):
    return Path(entry or ".", "forge_assets").exists()
sys.path[:] = [sys.argv[1], *(entry for entry in sys.path if not of_project(entry))]
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in str(finder).lower()]
sys.argv[:] = ["forge-runner", *sys.argv[2:]]
try:
    runpy.run_module("deploy.runner.forge_runner", run_name="__main__")
finally:
    for name, module in sorted(sys.modules.items()):
        if name.split(".")[0] in ("forge_assets", "resources", "sensors", "deploy", "dagster"):
            print("loaded", name, getattr(module, "__file__", None))
"""


def test_it_runs_with_what_is_in_the_image_alone(image: Path) -> None:
    error = "wandb: ERROR launch: Error running job: 400 Machine type x-1 is not supported."
    agent = ["--", sys.executable, "-c", f"print({error!r}); import signal; signal.pause()"]
    own = ["--queue", "q", "--entity", "team"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ran = subprocess.run(
        [sys.executable, "-c", ALONE, str(image), *own, *agent],
        cwd=image,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 1, ran.stderr
    events = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
    assert [event["event"] for event in events] == ["started", "fatal", "ended"]
    assert events[1]["id"] == "V03"
    loaded = [line.split() for line in ran.stdout.splitlines() if line.startswith("loaded ")]
    assert {name for _, name, _ in loaded} >= {"forge_assets.launches.catalogue"}
    foreign = [name for _, name, file in loaded if file != "None" and str(image) not in file]
    assert foreign == []
