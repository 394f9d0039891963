"""`dagster dev` on a project: web server, daemon and code location, with the sensors under test."""

import json
import socket
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

import psutil

from tests.pipeline.project import Command, Project, T

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
_BACKFILL = """mutation ($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
_BACKFILL_STATUS = """query ($id: String!) { partitionBackfillOrError(backfillId: $id) {
  __typename ... on PartitionBackfill { status } } }"""
_PARTITIONS = """query ($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
  assetPartitionStatuses { ... on DefaultPartitionStatuses {
    materializedPartitions failedPartitions unmaterializedPartitions materializingPartitions } }
  assetChecksOrError { ... on AssetChecks { checks { name partitionStatuses {
    ... on AssetCheckDefaultPartitionStatuses {
      succeededPartitions failedPartitions inProgressPartitions skippedPartitions
      executionFailedPartitions } } } } } } } }"""
_EVENTS = """query ($id: ID!) { runOrError(runId: $id) { ... on Run { eventConnection { events {
  ... on ExecutionStepFailureEvent { error { message causes { message } } } } } } } }"""
_START = """mutation ($selector: SensorSelector!) { startSensor(sensorSelector: $selector) {
  __typename ... on PythonError { message } } }"""


def _by_state(statuses: Mapping[str, Sequence[str]]) -> dict[str, set[str]]:
    return {name.removesuffix("Partitions"): set(keys) for name, keys in statuses.items() if keys}


def _causes(error: Mapping[str, Any]) -> str:
    return " ".join([error["message"], *(cause["message"] for cause in error["causes"])])


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
        if self.command.process.poll() is not None:
            return
        self.command.process.terminate()
        try:
            self.command.process.wait(60)
        finally:
            self.command.end()

    def kill(self) -> None:
        """Everything at once, runs included, as a power cut does."""
        assert self.command is not None
        root = psutil.Process(self.command.process.pid)
        for process in [root, *root.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.command.process.wait()

    def kill_daemon(self) -> None:
        """`dagster dev` ends when its daemon does."""
        assert self.command is not None
        root = psutil.Process(self.command.process.pid)
        (daemon,) = [
            child for child in root.children() if "dagster._daemon" in " ".join(child.cmdline())
        ]
        daemon.kill()
        self.command.process.wait(60)

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
        answer = self.ask(_LAUNCH, {"params": params})["launchPipelineExecution"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return str(answer["run"]["runId"])

    def backfill(self, partitions: Sequence[str], assets: Sequence[str]) -> str:
        """As the UI does it; the backfill's id."""
        params = {
            "partitionNames": list(partitions),
            "assetSelection": [{"path": asset.split("/")} for asset in assets],
        }
        answer = self.ask(_BACKFILL, {"params": params})["launchPartitionBackfill"]
        assert answer["__typename"] == "LaunchBackfillSuccess", answer
        return str(answer["backfillId"])

    def backfill_status(self, backfill: str) -> str:
        return str(
            self.ask(_BACKFILL_STATUS, {"id": backfill})["partitionBackfillOrError"]["status"]
        )

    def failure(self, run: str) -> str:
        """The messages of its failed steps."""
        events = self.ask(_EVENTS, {"id": run})["runOrError"]["eventConnection"]["events"]
        return "\n".join(_causes(event["error"]) for event in events if event.get("error"))

    def partitions(self, asset: str) -> dict[str, set[str]]:
        """What the UI shows of an asset: state -> partition keys, as ``materialized`` and ``failed``."""
        return _by_state(self._asset(asset)["assetPartitionStatuses"])

    def checks(self, asset: str) -> dict[str, dict[str, set[str]]]:
        """The same of each of its checks, as ``succeeded`` and ``failed``; states of none left out."""
        checks = self._asset(asset)["assetChecksOrError"]["checks"]
        return {check["name"]: _by_state(check["partitionStatuses"]) for check in checks}

    def _asset(self, asset: str) -> dict[str, Any]:
        answer = self.ask(_PARTITIONS, {"key": {"path": asset.split("/")}})
        return dict(answer["assetNodeOrError"])

    def start_sensor(self, name: str) -> None:
        selector = {**_NAMES, "sensorName": name}
        answer = self.ask(_START, {"selector": selector})["startSensor"]
        assert answer["__typename"] == "Sensor", answer

    def ticks(self, sensor: str, number: int) -> None:
        """Returns after that many more ticks of the sensor have ended."""
        begun = self._ended(sensor)
        self.until(lambda: self._ended(sensor) >= begun + number, f"{number} ticks of {sensor}")

    def until(self, met: Callable[[], T], what: str) -> T:
        assert self.command is not None
        return self.command.until(met, what)

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
            answer = self.ask(
                "{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }", {}
            )
        except (OSError, ValueError):
            return False
        return bool(answer["repositoriesOrError"].get("nodes"))

    def ask(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}/graphql", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            found = json.loads(answer.read())
        assert not found.get("errors"), found["errors"]
        return dict(found["data"])
