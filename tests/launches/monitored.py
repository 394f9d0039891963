"""A monitor over the wire fakes, and short ways to put things there."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from google.cloud.devtools.cloudbuild_v1.types import Build
from google.cloud.run_v2.types import Job

from forge_assets.cloud_config import CloudConfig
from forge_assets.launches.clouds import Clouds
from forge_assets.launches.monitor.monitor import Monitor
from forge_assets.launches.monitor.table import Snapshot, Table
from resources.cloud.credentials import access
from resources.diagnosis_store import DiagnosisStore
from tests.wire.clock import HandClock
from tests.wire.runs import ExecutionLife
from tests.wire.server import FakeGoogle
from tests.wire.wandb_server import FakeWandb

REGIONS = ["us-central1", "us-east1"]
CONFIG: Mapping[str, Any] = {
    "project": "demo",
    "regions": REGIONS,
    "wandb": {"entity": "team", "project": "vision", "queue": "vertex"},
    "runner": {"job": "runner"},
}


class Monitored:
    def __init__(
        self,
        google: FakeGoogle,
        fake_wandb: FakeWandb,
        clock: HandClock,
        diagnoses: DiagnosisStore | None = None,
        **config: Any,
    ) -> None:
        """``config``: sections in place of those above, None for none."""
        self.google, self.wandb, self.clock = google, fake_wandb, clock
        self.environment = {**google.environment, **fake_wandb.environment}
        sections = {name: held for name, held in {**CONFIG, **config}.items() if held is not None}
        self.clouds = Clouds(
            CloudConfig.model_validate(sections),
            access("demo", self.environment),
            self.environment,
        )
        self.monitor = Monitor(self.clouds, diagnoses, clock)

    def read(self, *names: str, seconds: float = 10.0) -> Snapshot:
        return self.monitor.read(names, seconds) if names else self.monitor.read(seconds=seconds)

    def table(self, name: str, seconds: float = 10.0) -> Table:
        (table,) = self.read(name, seconds=seconds).tables
        return table

    def rows(self, name: str) -> list[dict[str, Any]]:
        """As JSON has them."""
        return [row.as_json(self.clock.now) for row in self.table(name).rows]

    def runner(self, *args: str, job: str = "runner", region: str = REGIONS[0]) -> str:
        """A Cloud Run job with these arguments; its name."""
        name = f"projects/demo/locations/{region}/jobs/{job}"
        container = {"image": "image", "args": list(args)}
        self.google.runs.add_job(name, Job({"template": {"template": {"containers": [container]}}}))
        return name

    def execution(
        self, job: str, age_seconds: float = 0.0, life: ExecutionLife | None = None
    ) -> str:
        """Its short name."""
        started = self.google.runs.start(job, age_seconds, life)
        return str(started.name).rsplit("/", 1)[-1]

    def build(
        self,
        name: str,
        status: Any,
        age_seconds: float = 0.0,
        region: str = REGIONS[0],
        took: float | None = None,
        **fields: Any,
    ) -> None:
        created = self.clock.now - timedelta(seconds=age_seconds)
        build = Build(id=name, status=status, create_time=created, **fields)
        if took is not None:
            build.finish_time = created + timedelta(seconds=took)
        self.google.builds.add(region, build)
