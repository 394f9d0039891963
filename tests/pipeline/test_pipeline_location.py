"""The code location: what is loaded, by the command and by the web server."""

import json
import socket
import urllib.request
from typing import Any

from forge_assets.launches.monitor.tables import TABLES
from tests.pipeline.project import ROOT, Command, Project

ASSETS = ["model_weights", "review/draft", "review/gate", "review/polish", "review/results"]
ASSETS += ["launches", "subjects", *(f"monitor/{table}" for table in TABLES)]
QUERY = "{ assetNodes { assetKey { path } } workspaceOrError { ... on Workspace { locationEntries {"
QUERY += " name loadStatus locationOrLoadError { __typename } } } } }"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(port: int) -> dict[str, Any] | None:
    """None until the server answers."""
    body = json.dumps({"query": QUERY}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql", body, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return dict(json.loads(answer.read())["data"])
    except (OSError, ValueError):
        return None


def test_the_web_server_loads_the_same_assets_as_the_command(project: Project) -> None:
    listed = project.run("dagster", "asset", "list", "-m", "forge_assets.definitions")
    assert listed.code == 0, listed.text
    assert sorted(listed.out.split()) == sorted(ASSETS)
    port = free_port()
    place = ["-w", str(ROOT / "workspace.yaml"), "-h", "127.0.0.1", "-p", str(port)]
    server: Command = project.start("dagster_webserver", *place)
    try:
        answer = server.until(lambda: ask(port), "answer on its port")
    finally:
        server.process.terminate()
        server.process.wait(60)
    assert answer is not None
    entries = answer["workspaceOrError"]["locationEntries"]
    assert [entry["loadStatus"] for entry in entries] == ["LOADED"]
    assert entries[0]["locationOrLoadError"]["__typename"] == "RepositoryLocation"
    served = ["/".join(node["assetKey"]["path"]) for node in answer["assetNodes"]]
    assert sorted(served) == sorted(ASSETS)


def test_definitions_load_neither_torch_nor_google(project: Project) -> None:
    """google.protobuf is Dagster's own, google.cloud a namespace that every process has."""
    heavy = ["torch", "transformers", "google.cloud.aiplatform", "google.auth", "pyarrow"]
    (project.folder / "loaded.py").write_text(
        "import sys, forge_assets.definitions\n"
        f"print([name for name in {heavy} if name in sys.modules])\n"
    )
    ended = project.run("loaded")
    assert ended.code == 0, ended.text
    assert ended.out.strip() == "[]"
