"""GO and NO-GO for a launch, against clouds that answer over the wire."""

import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.cloud.aiplatform_v1.types import JobState
from google.rpc.error_details_pb2 import ErrorInfo

from forge_assets.cloud_config import CloudConfig
from forge_assets.launches.clouds import Clouds
from forge_assets.launches.criterion import Criterion, LaunchPreflight
from forge_assets.launches.preflight import launch_preflight
from forge_assets.launches.preflight_config import Path
from resources.cloud.credentials import access
from tests.launches.rig import QUEUE, REGION, RUNNER
from tests.wire import faults, http_faults, quotas
from tests.wire.clock import HandClock
from tests.wire.faults import Fault, WireError
from tests.wire.jobs import Life
from tests.wire.quotas import FakeServiceUsage
from tests.wire.registry import FakeRegistry
from tests.wire.server import FakeGoogle
from tests.wire.wandb_server import FakeWandb

T4 = "custom_model_training_nvidia_t4_gpus"
GPU = {"machine": "n1-standard-8", "accelerator": "NVIDIA_TESLA_T4", "accelerators": 2}


class Site:
    """Everything that a launch needs, in order; a test breaks one thing."""

    def __init__(
        self,
        google: FakeGoogle,
        wandb: FakeWandb,
        registry: FakeRegistry,
        usage: FakeServiceUsage,
        clock: HandClock,
    ) -> None:
        self.google, self.wandb, self.registry, self.usage = google, wandb, registry, usage
        self.clock = clock
        self.config: dict[str, Any] = {**QUEUE, "regions": [REGION, "us-east4", "us-west1"]}
        self.job: dict[str, Any] = {"image": "us-docker.pkg.dev/demo/r/train:v1", **GPU}
        self.environment = {
            **google.environment,
            **wandb.environment,
            **registry.environment,
            **usage.environment,
        }
        self.digest = registry.add("demo/r/train", "v1")
        registry.add("demo/r/runner", "v1")
        usage.add(T4, {REGION: 4})

    def ask(self, path: Path = "direct", seconds: float = 5.0) -> LaunchPreflight:
        config = CloudConfig.model_validate({**self.config, "jobs": {"train": self.job}})
        clouds = Clouds(config, access("demo", self.environment), self.environment)
        name, job = config.job("train")
        return launch_preflight(clouds, name, job, path, REGION, seconds, self.clock)


@pytest.fixture
def site(google: FakeGoogle, wandb: FakeWandb, clock: HandClock) -> Iterator[Site]:
    with FakeRegistry() as registry, FakeServiceUsage() as usage:
        yield Site(google, wandb, registry, usage, clock)


def one(found: LaunchPreflight, name: str) -> Criterion:
    return next(criterion for criterion in found.criteria if criterion.name == name)


def test_all_in_order_is_go_and_the_image_is_pinned(site: Site) -> None:
    for path in ("direct", "queue"):
        found = site.ask(path)  # type: ignore[arg-type]
        assert found.go, found.lines()
        assert found.image == f"us-docker.pkg.dev/demo/r/train@{site.digest}"
        assert found.lines()[-1] == "GO for train"
        assert found.sentence == ""
    assert one(found, "runner job").detail.startswith("will be created as vertex-ai-launcher")
    assert one(found, "credentials").state == "not_applicable"


def test_without_registry_and_quota_beside_the_emulators_nothing_leaves(site: Site) -> None:
    for name in (*site.registry.environment, *site.usage.environment):
        del site.environment[name]
    found = site.ask("queue")
    assert found.go, found.lines()
    assert found.image == site.job["image"]
    for name in ("image", "runner image", "quota"):
        assert one(found, name).state == "not_applicable"
    assert "no registry beside the emulator" in one(found, "image").detail


def test_the_answer_says_what_stops_and_how_to_mend_it(site: Site) -> None:
    found = site.ask()
    first = found.criteria[0]
    assert (first.name, first.word, first.told) == (
        "active launch",
        "GO",
        "this launch holds the lease",
    )
    site.job["scheduling"] = "flex-start"
    found = site.ask()
    assert not found.go
    assert found.lines()[-1] == "NO-GO for train: scheduling"
    assert found.sentence.startswith("NO-GO for train: scheduling: flex-start is for ")
    assert found.sentence.endswith(
        " (fix: set `scheduling: standard` in cloud.jobs.train of forge.yaml)"
    )


def wire_error(code: grpc.StatusCode, said: str, reason: str) -> Fault:
    info = ErrorInfo(reason=reason, domain="googleapis.com")
    return Fault(WireError(code, said, info))


DISABLED = wire_error(
    grpc.StatusCode.PERMISSION_DENIED,
    "API has not been used in project 123 before or it is disabled.",
    "SERVICE_DISABLED",
)


@pytest.mark.parametrize(
    ("call", "name", "service"),
    [
        ("ListCustomJobs", f"Vertex AI in {REGION}", "aiplatform.googleapis.com"),
        ("GetJob", "runner job", "run.googleapis.com"),
    ],
)
def test_a_disabled_api_is_enabled_by_one_command(
    site: Site, call: str, name: str, service: str
) -> None:
    site.google.faults.add(DISABLED, call)
    found = site.ask("queue")
    assert [criterion.name for criterion in found.refusals] == [name]
    assert f"gcloud services enable {service} --project demo" in one(found, name).fix


def test_who_may_not_list_is_told_the_permission(site: Site) -> None:
    site.google.faults.add(faults.denied(), "ListCustomJobs")
    found = one(site.ask(), f"Vertex AI in {REGION}")
    assert (found.state, "aiplatform.customJobs.list" in found.detail) == ("no", True)
    assert "roles/aiplatform.user" in found.fix


def test_credentials_that_nobody_accepts_are_no(site: Site) -> None:
    site.google.faults.add(
        wire_error(grpc.StatusCode.UNAUTHENTICATED, "invalid credentials", "TOKEN_EXPIRED")
    )
    found = site.ask()
    assert one(found, "credentials").state == "no"
    assert one(found, "credentials").fix == "gcloud auth application-default login"


@pytest.mark.parametrize(
    "fault", [faults.unavailable(), faults.throttled(), faults.hang()], ids=["503", "429", "hang"]
)
def test_a_job_api_that_is_not_known_is_no_go_in_time(site: Site, fault: Fault) -> None:
    site.ask()
    site.google.faults.add(fault, "ListCustomJobs")
    began = time.monotonic()
    found = site.ask(seconds=1.0)
    assert time.monotonic() - began < 2
    assert [criterion.name for criterion in found.refusals] == [f"Vertex AI in {REGION}"]
    assert found.refusals[0].state == "unknown"
    assert any(f"Vertex AI in {REGION}  not known: " in line for line in found.lines())
    assert one(found, "jobs ahead").word == "WARN"


def test_jobs_that_wait_for_quota_are_a_warning(site: Site) -> None:
    queued = Life(((0, JobState.JOB_STATE_QUEUED),))
    site.google.jobs.add(REGION, age_seconds=1800, life=queued)
    found = site.ask()
    assert found.go
    ahead = one(found, "jobs ahead")
    assert (ahead.word, ahead.detail) == (
        "WARN",
        f"1 wait for quota in {REGION}, the oldest for 30 min",
    )


class TestQueue:
    def test_a_queue_that_is_not_there(self, site: Site) -> None:
        site.config["wandb"] = {"entity": "team", "project": "vision", "queue": "other"}
        queue = one(site.ask("queue"), "queue")
        assert (queue.state, "team/other" in queue.detail) == ("no", True)
        assert "create queue other of team in W&B Launch" in queue.fix

    def test_a_queue_of_another_type(self, site: Site) -> None:
        site.wandb.queues.add("team", "pods", "kubernetes")
        site.config["wandb"] = {"entity": "team", "project": "vision", "queue": "pods"}
        assert "of type kubernetes" in one(site.ask("queue"), "queue").detail

    def test_no_queue_in_forge_yaml(self, site: Site) -> None:
        del site.config["wandb"]
        assert "--direct" in one(site.ask("queue"), "queue").fix

    def test_no_key(self, site: Site) -> None:
        del site.environment["WANDB_API_KEY"]
        queue = one(site.ask("queue"), "queue")
        assert (queue.state, "set WANDB_API_KEY" in queue.detail) == ("no", True)

    def test_w_and_b_that_hangs_is_not_known_and_stops(self, site: Site) -> None:
        site.wandb.faults.add(http_faults.hang())
        queue = one(site.ask("queue", seconds=0.5), "queue")
        assert (queue.state, queue.stops) == ("unknown", True)

    def test_a_direct_launch_asks_none_of_it(self, site: Site) -> None:
        names = [criterion.name for criterion in site.ask().criteria]
        assert not {"queue", "agent", "runner job", "runner image"} & set(names)
        assert site.wandb.asked == []


class TestRunner:
    def test_a_job_that_is_there(self, site: Site) -> None:
        site.google.runs.add_job(RUNNER)
        assert one(site.ask("queue"), "runner job").detail.startswith("vertex-ai-launcher is there")

    def test_none_and_no_image_to_make_it_from(self, site: Site) -> None:
        site.config["runner"] = {}
        runner = one(site.ask("queue"), "runner job")
        assert (runner.state, "cloud.runner.image" in runner.fix) == ("no", True)

    def test_a_cloud_run_that_fails_is_not_known_and_stops(self, site: Site) -> None:
        site.google.faults.add(faults.unavailable(), "GetJob")
        assert [each.name for each in site.ask("queue").refusals] == ["runner job"]

    def test_without_a_runner_of_ours_an_agent_must_poll(self, site: Site) -> None:
        del site.config["runner"]
        site.wandb.queues.add("team", "other")
        site.wandb.queues.add_agent("team", ["other"])
        site.wandb.queues.add_agent("team", ["vertex"], age_seconds=3600)
        site.wandb.queues.add_agent("team", ["vertex"], status="KILLED")
        found = site.ask("queue")
        assert [each.name for each in found.refusals] == ["agent"]
        assert "wandb launch-agent --entity team --queue vertex" in one(found, "agent").fix
        site.wandb.queues.add_agent("team", ["vertex"], name="box")
        assert one(site.ask("queue"), "agent").detail == "vertex is polled by box (POLLING)"


class TestScheduling:
    def test_the_queue_s_own_runner_drops_it(self, site: Site) -> None:
        site.job["scheduling"] = "spot"
        site.config["runner"] = {}
        scheduling = one(site.ask("queue"), "scheduling")
        assert scheduling.detail == (
            "W&B's own Vertex runner drops `scheduling: spot`, only our runner image keeps it"
        )
        for way in ("scheduling: standard", "deploy/runner", "--direct"):
            assert way in scheduling.fix
        assert one(site.ask(), "scheduling").state == "ok"

    def test_our_runner_keeps_it(self, site: Site) -> None:
        site.job["scheduling"] = "spot"
        assert one(site.ask("queue"), "scheduling").state == "ok"

    def test_flex_start_has_its_own_accelerators_and_a_week(self, site: Site) -> None:
        site.job["scheduling"] = "flex-start"
        assert "not for NVIDIA_TESLA_T4" in one(site.ask(), "scheduling").detail
        site.job |= {"machine": "g2-standard-24", "accelerator": "NVIDIA_L4", "timeout": "8d"}
        assert "7 days" in one(site.ask(), "scheduling").detail


class TestImage:
    def test_a_tag_that_nobody_pushed(self, site: Site) -> None:
        site.job["image"] = "us-docker.pkg.dev/demo/r/train:v2"
        image = one(site.ask(), "image")
        assert (image.state, "manifest unknown" in image.detail) == ("no", True)
        assert image.fix.startswith("Push the image")

    def test_one_for_other_machines(self, site: Site) -> None:
        site.registry.add("demo/r/train", "arm", ["linux/arm64"])
        site.job["image"] = "us-docker.pkg.dev/demo/r/train:arm"
        image = one(site.ask(), "image")
        assert (image.state, "exec format error" in image.detail) == ("no", True)
        assert "docker build --platform linux/amd64" in image.fix

    def test_a_registry_that_may_not_be_read_stops_nothing(self, site: Site) -> None:
        site.registry.faults.add(http_faults.status(403), "v1")
        found = site.ask()
        assert (found.go, found.image) == (True, site.job["image"])
        image = one(found, "image")
        assert (image.state, image.word) == ("unknown", "WARN")
        assert "roles/artifactregistry.reader" in image.fix

    def test_a_registry_that_hangs_stops_nothing(self, site: Site) -> None:
        site.registry.faults.add(http_faults.hang())
        found = site.ask(seconds=0.7)
        assert (found.go, one(found, "image").state) == (True, "unknown")

    def test_the_runner_s_image_is_looked_at_too(self, site: Site) -> None:
        site.config["runner"] = {"image": "us-docker.pkg.dev/demo/r/runner:v9"}
        assert [each.name for each in site.ask("queue").refusals] == ["runner image"]


class TestQuota:
    def test_enough_is_told_with_what_runs(self, site: Site) -> None:
        site.google.jobs.add(REGION, age_seconds=60)
        quota = one(site.ask(), "quota")
        assert quota.detail == (
            f"{T4} in {REGION} is 4, the job asks for 2; 1 jobs run in {REGION} now"
        )

    def test_all_replicas_count(self, site: Site) -> None:
        site.job["replicas"] = 3
        found = site.ask()
        assert [each.name for each in found.refusals] == ["quota"]
        assert "is 4, the job asks for 6" in one(found, "quota").detail

    def test_none_comes_with_regions_and_the_other_kind(self, site: Site) -> None:
        site.usage.add("custom_model_training_preemptible_nvidia_t4_gpus", {REGION: 6})
        site.job["replicas"] = 3
        fix = one(site.ask(), "quota").fix
        assert fix.startswith("no other configured region is known to have NVIDIA_TESLA_T4")
        assert "`scheduling: spot` has a quota of its own here: 6" in fix
        assert "console.cloud.google.com/iam-admin/quotas?project=demo" in fix

    def test_spot_has_its_own_metric(self, site: Site) -> None:
        site.job["scheduling"] = "spot"
        site.usage.add("custom_model_training_preemptible_nvidia_t4_gpus", {"us-east4": 4})
        quota = one(site.ask(), "quota")
        assert quota.detail.startswith(
            f"custom_model_training_preemptible_nvidia_t4_gpus in {REGION} is 0"
        )
        assert "try `region: us-east4` (quota 4)" in quota.fix
        assert "`scheduling: standard` has a quota of its own here: 4" in quota.fix

    @pytest.mark.parametrize(
        "fault", [quotas.denied(), http_faults.status(503), http_faults.hang()]
    )
    def test_what_is_not_known_stops_nothing(
        self, site: Site, fault: http_faults.HttpFault
    ) -> None:
        site.usage.faults.add(fault)
        found = site.ask(seconds=0.7)
        assert (found.go, one(found, "quota").state) == (True, "unknown")

    def test_without_an_accelerator_it_does_not_apply(self, site: Site) -> None:
        site.job = {"image": site.job["image"]}
        assert one(site.ask(), "quota").state == "not_applicable"
        assert site.usage.visits == []


def test_the_queue_needs_a_staging_bucket(site: Site) -> None:
    del site.config["staging_bucket"]
    assert [each.name for each in site.ask("queue").refusals] == ["staging bucket"]
    assert site.ask().go


def test_a_machine_without_the_accelerator_stops_and_a_doubt_only_warns(site: Site) -> None:
    site.job |= {"machine": "g2-standard-4"}
    machine = one(site.ask(), "machine")
    assert (machine.word, "accelerator: NVIDIA_L4" in machine.fix) == ("NO-GO", True)
    site.job |= {"machine": "a3-highgpu-1g", "accelerator": "NVIDIA_H100_80GB", "accelerators": 1}
    assert one(site.ask(), "machine").word == "WARN"
