"""The services of deploy/systemd as processes of a test: their command lines, on a project of its own."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.deploy import units
from tests.pipeline.project import ROOT, Command, Project
from tests.transformers_serve import free_port

PATIENCE_SECONDS = 60
SOCKET = "/run/forge/code.sock"
WORKSPACE = ROOT / "deploy" / "systemd" / "workspace.yaml"
LOCATION = "forge_assets.definitions"
_NAMES = {"repositoryName": "__repository__", "repositoryLocationName": LOCATION}
_LOADED = """{ workspaceOrError { ... on Workspace { locationEntries {
  name locationOrLoadError { __typename } } } } }"""
_LAUNCH = """mutation ($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
_RELOAD = """mutation ($name: String!) { reloadRepositoryLocation(repositoryLocationName: $name) {
  __typename ... on WorkspaceLocationEntry { locationOrLoadError { __typename } } } }"""
_ASSETS = "{ assetNodes { assetKey { path } } }"


class Box:
    """Code, webserver and daemon. ``home``: DAGSTER_HOME; ``more``: of their environment."""

    def __init__(self, project: Project, home: Path, **more: str) -> None:
        self.project = project
        self.project.environment |= {"DAGSTER_HOME": str(home), **more}
        # The folders of pytest are too long for a socket.
        self._run = Path(tempfile.mkdtemp(prefix="forge-run-"))
        self._port = free_port()
        workspace = home / "workspace.yaml"
        workspace.write_text(WORKSPACE.read_text().replace(SOCKET, str(self._run / "code.sock")))
        self._places = {
            SOCKET: str(self._run / "code.sock"),
            str(WORKSPACE).replace(str(ROOT), "/opt/forge"): str(workspace),
            "3000": str(self._port),
        }
        self._start_code()
        self.webserver, self.daemon = self.start("webserver"), self.start("daemon")
        self.daemon.until(self.is_loaded, "the code location in the UI")

    def start(self, name: str) -> Command:
        """The service, as its unit starts it."""
        program, *arguments = units.command(name)
        module, *more = [*units.module_of(program), *arguments][1:]
        return self.project.start(module, *(self._places.get(word, word) for word in more))

    def close(self) -> None:
        commands = (self.webserver, self.daemon, self.code)
        for command in commands:
            command.process.terminate()
        for command in commands:
            try:
                command.process.wait(PATIENCE_SECONDS)
            finally:
                self._kill(command)
        shutil.rmtree(self._run)

    def _kill(self, command: Command) -> None:
        """With its children, which are in the group that it leads."""
        with suppress(ProcessLookupError):
            os.killpg(command.process.pid, signal.SIGKILL)
        command.process.wait()

    def stop(self) -> int:
        """As systemd stops code and daemon: in this order, and all processes of the code at once.

        The exit code of the code.
        """
        self.daemon.process.terminate()
        assert self.daemon.process.wait(PATIENCE_SECONDS) == 0
        os.killpg(self.code.process.pid, signal.SIGTERM)
        return self.code.process.wait(PATIENCE_SECONDS)

    def start_again(self) -> None:
        self._start_code()
        self.daemon = self.start("daemon")

    def _start_code(self) -> None:
        """It has started when what the unit asks after the start is answered."""
        self.code = self.start("code")
        (line,) = units.service("code").all("Service", "ExecStartPost")
        _, _, script = shlex.split(line)
        script = script.replace("/opt/forge/.venv/bin", str(Path(sys.executable).parent))
        script = script.replace(SOCKET, self._places[SOCKET])
        subprocess.run(
            ["sh", "-c", script], env=self.project.environment, check=True, timeout=PATIENCE_SECONDS
        )

    # what the UI does

    def is_loaded(self) -> bool:
        answer = self.ask(_LOADED)
        if answer is None:
            return False
        (entry,) = answer["workspaceOrError"]["locationEntries"]
        kind = (entry["locationOrLoadError"] or {}).get("__typename")
        return entry["name"] == LOCATION and kind == "RepositoryLocation"

    def launch(self, partition: str, assets: Sequence[str]) -> str:
        """The run's id."""
        params = {
            "selector": {
                **_NAMES,
                "pipelineName": "__ASSET_JOB",
                "assetSelection": [{"path": asset.split("/")} for asset in assets],
            },
            "mode": "default",
            "runConfigData": {},
            "executionMetadata": {"tags": [{"key": "dagster/partition", "value": partition}]},
        }
        answer = self.ask(_LAUNCH, params=params)
        assert answer is not None
        answer = answer["launchPipelineExecution"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return str(answer["run"]["runId"])

    def reload(self) -> None:
        answer = self.ask(_RELOAD, name=LOCATION)
        assert answer is not None
        entry = answer["reloadRepositoryLocation"]
        assert entry["locationOrLoadError"]["__typename"] == "RepositoryLocation", entry

    def assets(self) -> set[str]:
        answer = self.ask(_ASSETS)
        assert answer is not None
        return {"/".join(node["assetKey"]["path"]) for node in answer["assetNodes"]}

    def ask(self, query: str, **variables: Any) -> dict[str, Any] | None:
        """None while nobody answers."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}/graphql", body, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return dict(json.loads(answer.read())["data"])
        except (OSError, ValueError):
            return None
