"""A launch against the wire fakes, under a clock that its own waiting moves."""

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from forge_assets.cloud_config import CloudConfig
from forge_assets.launches.clouds import Clouds
from forge_assets.launches.launch import Tools, launch, order_of
from forge_assets.launches.outcome import LaunchResult
from resources.cloud.cloud_run import CloudRun
from resources.cloud.credentials import access
from resources.cloud.vertex import Vertex
from resources.cloud.wandb import Wandb, wandb_access
from resources.diagnosis_store import DiagnosisStore
from resources.launch_store import Launch, LaunchStore
from resources.locks import LockSpace, SessionLock
from tests.wire.clock import HandClock
from tests.wire.runs import ExecutionLife
from tests.wire.server import FakeGoogle
from tests.wire.wandb_server import FakeWandb

REGION = "us-central1"
RUNNER = f"projects/demo/locations/{REGION}/jobs/vertex-ai-launcher"
DIRECT: Mapping[str, Any] = {
    "project": "demo",
    "region": REGION,
    "jobs": {"train": {"image": "us-docker.pkg.dev/demo/r/train:v1"}},
}
QUEUE: Mapping[str, Any] = {
    **DIRECT,
    "staging_bucket": "gs://staging",
    "wandb": {"entity": "team", "project": "vision", "queue": "vertex"},
    "runner": {"image": "us-docker.pkg.dev/demo/r/runner:v1"},
}


class Rig:
    """One user's machine and cloud. ``told``: the steps; ``seconds``: since it was made."""

    def __init__(
        self,
        google: FakeGoogle,
        wandb: FakeWandb,
        clock: HandClock,
        engine: sa.Engine,
        config: Mapping[str, Any] = DIRECT,
    ) -> None:
        self.google, self.wandb, self.clock, self.engine = google, wandb, clock, engine
        environment = {**google.environment, **wandb.environment}
        self.clouds = Clouds(
            CloudConfig.model_validate(config), access("demo", environment), environment
        )
        # Their own limits count the same time.
        self.clouds.vertex = Vertex(self.clouds.access, self._now)
        self.clouds.cloud_run = CloudRun(self.clouds.access, self._now)
        self.clouds.wandb = Wandb(wandb_access(environment), self._now)
        self.launches = LaunchStore(engine)
        self.told: list[str] = []
        self._reactions: dict[str, Callable[[], None]] = {}
        self._begin = clock()
        self._planned: list[tuple[float, Callable[[], None]]] = []

    def _now(self) -> float:
        return self.clock().timestamp()

    @property
    def seconds(self) -> float:
        return (self.clock() - self._begin).total_seconds()

    def at(self, seconds: float, action: Callable[[], None]) -> None:
        self._planned.append((seconds, action))

    def on(self, step: str, action: Callable[[], None]) -> None:
        """Once, when a step that says so is told."""
        self._reactions[step] = action

    def _hear(self, line: str) -> None:
        self.told.append(line)
        for step in [step for step in self._reactions if step in line]:
            self._reactions.pop(step)()

    def wait(self, seconds: float) -> None:
        """Time passes; what is planned for it happens at its moment."""
        end = self.seconds + seconds
        for planned in sorted(self._planned, key=lambda each: each[0]):
            if planned[0] <= end:
                self.clock.forward(max(0.0, planned[0] - self.seconds))
                self._planned.remove(planned)
                planned[1]()
        self.clock.forward(max(0.0, end - self.seconds))

    def lease(self) -> SessionLock:
        return SessionLock(self.engine, LockSpace.LAUNCH, "demo/train")

    def launch(self, direct: bool = False) -> LaunchResult:
        tools = Tools(
            clouds=self.clouds,
            launches=self.launches,
            diagnoses=DiagnosisStore(self.engine),
            lease=self.lease(),
            holder="ada@box pid 7",
            now=self.clock,
            clock=lambda: self.seconds,
            wait=self.wait,
            tell=self._hear,
        )
        return launch(order_of(self.clouds, None, direct), tools)

    def kept(self, launch: UUID) -> Launch:
        found = self.launches.launch(launch)
        assert found is not None
        return found

    def newest(self) -> Launch:
        return self.launches.recent(1, "demo")[0]

    def agent_takes(self, seconds: float) -> None:
        """An agent that creates the job of the queue's first item at ``seconds``."""

        def create() -> None:
            item = self.wandb.queues.named("team", "vertex").items[0]
            labels = item.spec["resource_args"]["vertex"]["spec"]["labels"]
            labels = {**labels, "wandb-run-id": item.spec["run_id"]}
            self.google.jobs.add(REGION, display_name=item.spec["name"], labels=labels)

        self.at(seconds, create)

    def start_runner(self, *args: str, life: ExecutionLife | None = None) -> str:
        """A live execution of a runner job that was there before."""
        from google.cloud.run_v2.types import Job

        job = Job(
            {"template": {"template": {"containers": [{"image": "old", "args": list(args)}]}}}
        )
        self.google.runs.add_job(RUNNER, job)
        return str(self.google.runs.start(RUNNER, age_seconds=600, life=life).name)
