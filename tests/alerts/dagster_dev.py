"""`dagster dev` on a project: web server, daemon and code location, with the sensors under test."""

import json
import socket
import urllib.request
from types import TracebackType
from typing import Any

from tests.pipeline.project import Command, Project

LOCATION = """\
import dagster as dg

from forge_assets import definitions
from sensors.alerts import build_alert_sensors
from sensors.stage_progress import build_stage_progress_sensor

defs = dg.Definitions(
    assets=definitions.defs.assets,
    resources=definitions.defs.resources,
    executor=definitions.defs.executor,
    sensors=[
        *build_alert_sensors(definitions.project, 1),
        build_stage_progress_sensor(definitions.project, 1),
    ],
)
"""
_NAMES = {"repositoryName": "__repository__", "repositoryLocationName": "location"}
_LAUNCH = """mutation ($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
_START = """mutation ($selector: SensorSelector!) { startSensor(sensorSelector: $selector) {
  __typename ... on PythonError { message } } }"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class DagsterDev:
    """Its sensors tick as often as Dagster lets them: every five seconds or so."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._port = _free_port()
        self.command: Command | None = None

    def __enter__(self) -> "DagsterDev":
        folder = self.project.folder
        (folder / "location.py").write_text(LOCATION)
        place = ["-m", "location", "-d", str(folder), "-h", "127.0.0.1", "-p", str(self._port)]
        self.command = self.project.start("dagster", "dev", *place)
        self.command.until(self._is_ready, "answer of the web server")
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.command is not None
        self.command.process.terminate()
        try:
            self.command.process.wait(60)
        finally:
            self.command.end()

    def launch(self, partition: str, assets: list[str]) -> str:
        """As the UI does it; the run's id."""
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
        answer = self._ask(_LAUNCH, {"params": params})["launchPipelineExecution"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return str(answer["run"]["runId"])

    def start_sensor(self, name: str) -> None:
        selector = {**_NAMES, "sensorName": name}
        answer = self._ask(_START, {"selector": selector})["startSensor"]
        assert answer["__typename"] == "Sensor", answer

    def ticks(self, sensor: str, number: int) -> None:
        """Returns after that many more ticks of the sensor have ended."""
        begun = self._ended(sensor)
        self.until(lambda: self._ended(sensor) >= begun + number, f"{number} ticks of {sensor}")

    def until(self, met: Any, what: str) -> None:
        assert self.command is not None
        self.command.until(met, what)

    def _ended(self, sensor: str) -> int:
        """The ticks that ended; a tick that is skipped has its row too."""
        rows = self.project.query(
            "SELECT count(*) AS number FROM public.job_ticks"
            " WHERE status <> 'STARTED' AND tick_body::text LIKE :name",
            name=f'%"{sensor}"%',
        )
        return int(rows[0]["number"])

    def _is_ready(self) -> bool:
        assert self.command is not None
        assert "Error loading repository location" not in self.command.text, self.command.text
        try:
            answer = self._ask(
                "{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }", {}
            )
        except (OSError, ValueError):
            return False
        return bool(answer["repositoriesOrError"].get("nodes"))

    def _ask(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}/graphql", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            found = json.loads(answer.read())
        assert not found.get("errors"), found["errors"]
        return dict(found["data"])
