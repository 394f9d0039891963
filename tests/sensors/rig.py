"""The sensors of one project, ticked by hand against the wire fakes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import dagster as dg

from forge_assets.cloud_config import CloudConfig
from forge_assets.launches.assets import LAUNCHES
from forge_assets.launches.diagnose_job import build_diagnose_job
from forge_assets.launches.launch_id import LABEL
from forge_assets.launches.reporting import report_launch
from forge_assets.project import load_project
from resources.database import open_engine
from resources.launch_store import Launch, LaunchStore
from sensors.launches import launch_sensors
from sensors.tick import TickTools
from tests.wire.clock import HandClock
from tests.wire.jobs import Life
from tests.wire.server import FakeGoogle
from tests.wire.wandb_server import FakeWandb

REGION, OTHER = "us-central1", "europe-west4"
RUNNER = f"projects/demo/locations/{REGION}/jobs/vertex-ai-launcher"
CONFIG: Mapping[str, Any] = {
    "project": "demo",
    "region": REGION,
    "regions": [REGION, OTHER],
    "jobs": {"train": {"image": "us-docker.pkg.dev/demo/r/train:v1"}},
    "wandb": {"entity": "team", "project": "vision", "queue": "vertex"},
    "runner": {},
}
PAST_THE_LAUNCHER = 300


@dataclass
class Told:
    """An asset event, its metadata as plain values."""

    kind: str
    metadata: Mapping[str, Any]

    @property
    def state(self) -> tuple[str, Any]:
        return self.kind, self.metadata.get("state")


@dataclass
class Rig:
    google: FakeGoogle
    wandb: FakeWandb
    clock: HandClock
    instance: dg.DagsterInstance
    config: Mapping[str, Any] = field(default_factory=lambda: dict(CONFIG))
    cursors: dict[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store = LaunchStore(open_engine())
        self.restart()

    def restart(self) -> None:
        """A new process: nothing is known but the cursors and the store."""
        environment = {**self.google.environment, **self.wandb.environment}
        tools = TickTools(CloudConfig.model_validate(self.config), environment, self.clock)
        job = build_diagnose_job(load_project())
        self.sensors = {made.name: made for made in launch_sensors(tools, job)}

    def tick(self, sensor: str = "vertex_job_sensor", keep: bool = True) -> dg.SensorResult:
        """``keep`` False: the daemon died before it kept the cursor. It has looked at something."""
        result = self._ticked(sensor)
        assert isinstance(result, dg.SensorResult), result
        if keep:
            self.cursors[sensor] = result.cursor
        return result

    def skipped(self, sensor: str = "vertex_job_sensor") -> str:
        """Why a tick ends before it has seen anything; the cursor stays."""
        result = self._ticked(sensor)
        assert isinstance(result, dg.SkipReason), result
        return result.skip_message or ""

    def _ticked(self, sensor: str) -> object:
        cursor = self.cursors.get(sensor)
        with dg.build_sensor_context(instance=self.instance, cursor=cursor) as context:
            return self.sensors[sensor](context)

    def begun(self, state: str = "intended", **columns: Any) -> Launch:
        """A launch whose launcher has gone."""
        made = self.store.begin(
            Launch(uuid4(), "intended", "direct", "train", "demo", REGION, holder="gone")
        )
        if state != "intended" or columns:
            assert self.store.change(made.id, "test", state=state, **columns)
        return self.kept(made.id)

    def job_of(self, launch: UUID, region: str = REGION, **options: Any) -> str:
        return self.google.jobs.add(region, labels={LABEL: launch.hex}, **options)

    def kept(self, launch: UUID) -> Launch:
        found = self.store.launch(launch)
        assert found is not None
        return found

    def report(self, launch: UUID) -> int:
        """As `forge launch` does at its end."""
        return len(report_launch(self.instance, self.store, launch, self.clock()))

    def told(self) -> list[Told]:
        """What Dagster knows of `launches`, oldest first."""
        records = [
            *self.instance.fetch_materializations(LAUNCHES, 100).records,
            *self.instance.fetch_observations(LAUNCHES, 100).records,
        ]
        found = []
        for record in sorted(records, key=lambda record: record.storage_id):
            event = record.asset_materialization or record.asset_observation
            assert event is not None
            kind = "materialized" if record.asset_materialization else "observed"
            values = {name: value.value for name, value in event.metadata.items()}
            found.append(Told(kind, values))
        return found

    def states(self) -> list[tuple[str, Any]]:
        return [told.state for told in self.told()]


def life(*states: tuple[float, Any], error: str = "") -> Life:
    return Life(states, error)
