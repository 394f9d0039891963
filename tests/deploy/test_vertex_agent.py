"""What the image mends in wandb's Vertex AI runner, with the real Google library on the fake wire.

Each test runs on a stand-in of wandb's module, and on wandb's own where it is installed.
"""

import asyncio
import importlib
import importlib.util
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import grpc
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform
from google.cloud.aiplatform_v1.services.job_service import JobServiceClient
from google.cloud.aiplatform_v1.services.job_service.transports.grpc import JobServiceGrpcTransport
from google.cloud.aiplatform_v1.types import CustomJob, JobState, Scheduling

from deploy.runner.vertex_agent import (
    REGION_VARIABLES,
    NotAsExpected,
    check,
    configuration,
    mend,
    region,
    wanted,
)
from forge_assets.launches.runner import TARGET_REGION
from tests.deploy import stand_in_runner
from tests.wire.clock import HandClock
from tests.wire.jobs import Life
from tests.wire.server import FakeGoogle

WANDB = "wandb.sdk.launch.runner.vertex_runner"
SPEC = {
    "worker_pool_specs": [
        {"machine_spec": {"machine_type": "n1-standard-4"}, "container_spec": {"image_uri": "i"}}
    ],
    "staging_bucket": "gs://staging",
    "labels": {"forge_launch": "0123"},
}


MODULES = ["stand-in", "wandb"] if importlib.util.find_spec("wandb") else ["stand-in"]


@pytest.fixture(params=MODULES)
def runner(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module that launches, and the Google library: both as they were again after the test."""
    module = importlib.import_module(WANDB) if request.param == "wandb" else stand_in_runner
    monkeypatch.setattr(module, "launch_vertex_job", module.launch_vertex_job)
    submitted = module.VertexSubmittedRun
    monkeypatch.setattr(submitted, "get_status", submitted.get_status)
    monkeypatch.setattr(aiplatform, "CustomJob", aiplatform.CustomJob)
    return module


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def google(clock: HandClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGoogle]:
    """All that the Google library sends goes to the fake."""
    with FakeGoogle(clock) as made, grpc.insecure_channel(made.address) as channel:
        client = JobServiceClient(transport=JobServiceGrpcTransport(channel=channel))
        monkeypatch.setattr(aiplatform.CustomJob, "_instantiate_client", lambda *_, **__: client)
        yield made


async def _nothing() -> None:
    pass


async def _anonymous() -> AnonymousCredentials:
    return AnonymousCredentials()


ENVIRONMENT = SimpleNamespace(
    project="demo", region="us-central1", verify=_nothing, get_credentials=_anonymous
)


def launch(module: Any, run_args: dict[str, Any], spec: dict[str, Any] = SPEC) -> Any:
    project = SimpleNamespace(name="train", run_id="abc123")
    return asyncio.run(module.launch_vertex_job(project, dict(spec), run_args, ENVIRONMENT))


def mended(module: ModuleType) -> ModuleType:
    mend(module, aiplatform, Scheduling.Strategy)
    return module


def only_job(google: FakeGoogle, region: str = "us-central1") -> CustomJob:
    (job,) = google.jobs.all(region)
    return job


def test_stock_drops_the_scheduling(runner: ModuleType, google: FakeGoogle) -> None:
    launch(runner, {"scheduling_strategy": "SPOT", "timeout": 60})
    scheduling = only_job(google).job_spec.scheduling
    assert (scheduling.strategy, scheduling.timeout.total_seconds()) == (0, 60)


@pytest.mark.parametrize("strategy", ["SPOT", "FLEX_START", "STANDARD"])
def test_mended_it_passes_the_scheduling_on(
    strategy: str, runner: ModuleType, google: FakeGoogle
) -> None:
    asked = {"scheduling_strategy": strategy, "max_wait_duration": 7200, "timeout": 60}
    launch(mended(runner), {**asked, "service_account": "trainer@p"})
    job = only_job(google)
    scheduling = job.job_spec.scheduling
    assert Scheduling.Strategy(scheduling.strategy).name == strategy
    assert scheduling.max_wait_duration.total_seconds() == 7200
    assert scheduling.timeout.total_seconds() == 60
    assert job.job_spec.service_account == "trainer@p"
    assert dict(job.labels) == {"forge_launch": "0123", "wandb-run-id": "abc123"}


def test_without_wishes_all_is_as_in_stock(runner: ModuleType, google: FakeGoogle) -> None:
    launch(mended(runner), {})
    assert not only_job(google).job_spec.scheduling


def test_the_next_job_has_wishes_of_its_own(runner: ModuleType, google: FakeGoogle) -> None:
    module = mended(runner)

    async def both() -> None:
        projects = [SimpleNamespace(name=name, run_id=name) for name in ("spot", "plain")]
        wishes: list[dict[str, Any]] = [{"scheduling_strategy": "SPOT"}, {}]
        await asyncio.gather(
            *(
                module.launch_vertex_job(project, dict(SPEC), wish, ENVIRONMENT)
                for project, wish in zip(projects, wishes, strict=True)
            )
        )

    asyncio.run(both())
    strategies = {
        job.display_name: job.job_spec.scheduling.strategy for job in google.jobs.all("us-central1")
    }
    assert strategies == {"spot": Scheduling.Strategy.SPOT, "plain": 0}


def test_a_job_may_name_its_region(runner: ModuleType, google: FakeGoogle) -> None:
    launch(mended(runner), {"region": "europe-west4"})
    assert only_job(google, "europe-west4").display_name == "train"


@pytest.mark.parametrize(
    ("run_args", "words"),
    [
        ({"scheduling_strategy": "CHEAP"}, "'CHEAP'; it may be STANDARD, SPOT, FLEX_START"),
        ({"scheduling_strategy": ["SPOT"]}, "scheduling_strategy is"),
        ({"max_wait_duration": "24h"}, "'24h'; it must be in seconds"),
        ({"max_wait_duration": -1}, "must be in seconds"),
    ],
)
def test_a_wish_that_cannot_be_met_is_refused(
    run_args: dict[str, Any], words: str, runner: Any, google: FakeGoogle
) -> None:
    with pytest.raises(runner.LaunchError, match=r"vertex\.run") as told:
        launch(mended(runner), run_args)
    assert words in str(told.value)
    assert google.jobs.all("us-central1") == []


@pytest.mark.filterwarnings("ignore:Unrecognized JobState")
@pytest.mark.parametrize(
    ("state", "seen"),
    [
        (JobState.JOB_STATE_QUEUED, "unknown"),
        (JobState.JOB_STATE_PENDING, "starting"),
        (JobState.JOB_STATE_RUNNING, "running"),
        (JobState.JOB_STATE_CANCELLING, "stopping"),
        (JobState.JOB_STATE_SUCCEEDED, "finished"),
        (JobState.JOB_STATE_PARTIALLY_SUCCEEDED, "finished"),
        (JobState.JOB_STATE_FAILED, "failed"),
        (JobState.JOB_STATE_EXPIRED, "failed"),
        (JobState.JOB_STATE_CANCELLED, "stopped"),
        (77, "unknown"),
    ],
)
def test_every_state_is_seen(
    state: int, seen: str, runner: ModuleType, google: FakeGoogle, clock: HandClock
) -> None:
    google.jobs.life = Life(states=((0, JobState.JOB_STATE_PENDING), (5, state)))
    run = launch(mended(runner), {})
    assert asyncio.run(run.get_status()).state == "starting"
    clock.forward(5)
    assert asyncio.run(run.get_status()).state == seen


@pytest.mark.skipif(sys.version_info < (3, 11), reason="str() of a state was its name")
def test_stock_sees_no_end(runner: ModuleType, google: FakeGoogle) -> None:
    google.jobs.life = Life(states=((0, JobState.JOB_STATE_SUCCEEDED),))
    assert asyncio.run(launch(runner, {}).get_status()).state == "unknown"


def test_the_agent_itself_sees_the_end_of_a_job(google: FakeGoogle, runner: ModuleType) -> None:
    """wandb's own check of a run, with what it was given by the mended launch."""
    if runner is stand_in_runner:
        pytest.skip("only wandb itself has an agent")
    agent_module = importlib.import_module("wandb.sdk.launch.agent.agent")
    tracker_module = importlib.import_module("wandb.sdk.launch.agent.job_status_tracker")
    agent = object.__new__(agent_module.LaunchAgent)
    agent.__dict__.update(_known_warnings=[], _jobs_lock=threading.Lock())
    module = mended(runner)
    for state in (JobState.JOB_STATE_EXPIRED, JobState.JOB_STATE_CANCELLED):
        google.jobs.life = Life(states=((0, state),))
        tracker = tracker_module.JobAndRunStatusTracker("item", "q", None)
        tracker.run = launch(module, {})
        assert asyncio.run(agent._check_run_finished(tracker, {})) is True


def _without_submit(module: ModuleType) -> None:
    async def launch_vertex_job(
        launch_project: Any, spec_args: Any, run_args: Any, environment: Any, synchronous: Any
    ) -> None: ...

    module.launch_vertex_job = launch_vertex_job  # type: ignore[attr-defined]


def _with_another_argument(module: ModuleType) -> None:
    async def launch_vertex_job(project: Any, get_module: Any) -> None:
        aiplatform = get_module.get_module("google.cloud.aiplatform")
        aiplatform.CustomJob().submit()

    module.launch_vertex_job = launch_vertex_job  # type: ignore[attr-defined]


def _plain_status(module: ModuleType) -> None:
    module.VertexSubmittedRun.get_status = lambda self: self._job.state


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda module: setattr(module, "launch_vertex_job", None), "launch_vertex_job is not"),
        (_without_submit, "launch_vertex_job is not what it was"),
        (_with_another_argument, "takes other arguments"),
        (_plain_status, "get_status is not what it was"),
    ],
)
def test_another_wandb_is_refused(change: Any, words: str, runner: ModuleType) -> None:
    check(runner, aiplatform)
    change(runner)
    with pytest.raises(NotAsExpected, match=words):
        mend(runner, aiplatform, Scheduling.Strategy)


def test_another_google_library_is_refused(runner: ModuleType) -> None:
    class OldJob:
        def submit(self, timeout: int) -> None: ...

    with pytest.raises(NotAsExpected, match="knows no scheduling"):
        check(runner, SimpleNamespace(CustomJob=OldJob))  # type: ignore[arg-type]


def test_no_wish_is_no_argument() -> None:
    assert wanted({"timeout": 3, "scheduling_strategy": None}, Scheduling.Strategy) == {}
    assert wanted({"max_wait_duration": 0}, Scheduling.Strategy) == {"max_wait_duration": 0}


def test_the_agent_is_told_its_region(tmp_path: Path) -> None:
    option, path = configuration(tmp_path / "home", tmp_path, lambda: "us-east1")
    assert option == "--config"
    assert Path(path).read_text() == "environment:\n  type: gcp\n  region: us-east1\n"


def test_a_configuration_of_the_users_own_is_kept(tmp_path: Path) -> None:
    own = tmp_path / ".config" / "wandb" / "launch-config.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("environment: {type: gcp, region: us-west1}")
    assert configuration(tmp_path, tmp_path, lambda: pytest.fail("it is there")) == []


def test_without_a_region_it_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="FORGE_TARGET_REGION"):
        configuration(tmp_path, tmp_path, lambda: "")


class _Metadata(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        asked = (self.path, self.headers["Metadata-Flavor"])
        known = asked == ("/computeMetadata/v1/instance/region", "Google")
        self.send_response(200 if known else 404)
        self.end_headers()
        self.wfile.write(b"projects/123/regions/us-west4")

    def log_message(self, *_: object) -> None:
        pass


def test_the_region_is_named_or_that_of_the_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in REGION_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with HTTPServer(("127.0.0.1", 0), _Metadata) as server:
        monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{server.server_port}")
        answering = threading.Thread(target=server.handle_request)
        answering.start()
        assert region() == "us-west4"
        answering.join()
    assert region() == ""
    monkeypatch.setenv("GOOGLE_CLOUD_REGION", "us-east1")
    assert region() == "us-east1"
    monkeypatch.setenv(TARGET_REGION, "us-east4")
    assert region() == "us-east4"
