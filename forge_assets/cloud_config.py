"""The section `cloud:` of forge.yaml: where jobs run, what they are, and who starts them."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from forge_assets.config_types import Seconds, Section
from resources.cloud.regions import REGIONS
from resources.errors import ConfigurationError

_REGION = re.compile(r"[a-z]+-[a-z]+\d+")
_PROJECT = re.compile(r"(?:[a-z0-9.-]+:)?[a-z][a-z0-9-]{0,29}|\d{6,20}")
_RUN_NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,47}[a-z0-9])?")
_IMAGE = re.compile(r"[A-Za-z0-9][\w.:/-]*(?:@sha256:[0-9a-f]{64})?")
_BUCKET = re.compile(r"gs://[a-z0-9][a-z0-9._-]+(?:/.*)?")
_W_AND_B = re.compile(r"[\w.-]+")
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_PLAIN = re.compile(r"[^\x00-\x1f\x7f]*")
_MACHINE = re.compile(r"[a-z0-9-]+")
_ACCELERATOR = re.compile(r"(?:NVIDIA|TPU|AMD)_[A-Z0-9_]+")
_ACCOUNT = re.compile(r"[a-zA-Z0-9._-]+@[a-zA-Z0-9.-]+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _like(pattern: re.Pattern[str], should_be: str) -> AfterValidator:
    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(f"'{value}' should be {should_be}")
        return value

    return AfterValidator(check)


Region = Annotated[str, _like(_REGION, "a region such as us-central1")]
Project = Annotated[str, _like(_PROJECT, "a project's id: small letters, digits and '-'")]
RunName = Annotated[str, _like(_RUN_NAME, "small letters, digits and '-', 49 at most")]
Image = Annotated[str, _like(_IMAGE, "an image, such as us-docker.pkg.dev/P/R/train:v1")]
WandbName = Annotated[str, _like(_W_AND_B, "a name of letters, digits, '.', '_' and '-'")]
JobKey = Annotated[str, _like(_KEY, "letters, digits, '-' and '_'")]
Variable = Annotated[str, _like(_VARIABLE, "the name of an environment variable")]

Text = Annotated[str, _like(_PLAIN, "without control characters")]
Account = Annotated[str, _like(_ACCOUNT, "a service account's address")]
Machine = Annotated[str, _like(_MACHINE, "a machine type such as n1-standard-4")]
Accelerator = Annotated[str, _like(_ACCELERATOR, "Vertex AI's name, such as NVIDIA_L4")]
AtLeastASecond = Annotated[Seconds, Field(ge=1)]

Strategy = Literal["standard", "spot", "flex-start"]
"""``flex-start`` waits for capacity up to ``max_wait``; ``spot`` may be preempted."""


class JobSpec(Section):
    """One kind of job: what runs, on which machines, under which scheduling."""

    image: Image
    command: tuple[Text, ...] = ()
    args: tuple[Text, ...] = ()
    env: dict[Variable, Text] = {}
    machine: Machine = "n1-standard-4"
    accelerator: Accelerator | None = None
    """Vertex AI's name, such as NVIDIA_TESLA_T4."""
    accelerators: int = Field(default=1, ge=1, le=16)
    """Per replica; counts only with ``accelerator``."""
    replicas: int = Field(default=1, ge=1, le=1000)
    boot_disk_gb: int = Field(default=100, ge=100, le=64000)
    scheduling: Strategy = "standard"
    max_wait: AtLeastASecond | None = None
    """For capacity, with ``flex-start``; None is the API's day."""
    timeout: AtLeastASecond | None = None
    """The job's life; None is the API's 7 days."""
    region: Region | None = None
    """None is ``cloud.region``."""

    @model_validator(mode="after")
    def _wait_is_of_flex_start(self) -> "JobSpec":
        if self.max_wait is not None and self.scheduling != "flex-start":
            raise ValueError("max_wait goes with 'scheduling: flex-start' only; remove one")
        return self


class WandbSpec(Section):
    """Where runs are, and the W&B Launch queue that launches go through when there is one."""

    entity: WandbName
    project: WandbName
    queue: WandbName | None = None


class RunnerSpec(Section):
    """The Cloud Run job that runs the W&B Launch agent."""

    job: RunName = "vertex-ai-launcher"
    region: Region | None = None
    """None is ``cloud.region``."""
    image: Image | None = None
    """Of deploy/runner. Without it the job must be there, and is used as it is."""
    service_account: Account | None = None
    secret: WandbName | None = None
    """Secret Manager's name of the W&B key; None leaves it to the image or the job."""
    idle_stop: Seconds = 1800.0


class CloudConfig(Section):
    """``cloud:`` as written."""

    project: Project | None = None
    """None: GOOGLE_CLOUD_PROJECT, else the project of the credentials."""
    region: Region = "us-central1"
    regions: tuple[Region, ...] = REGIONS
    """What the monitor and the sensors watch."""
    staging_bucket: Annotated[str, _like(_BUCKET, "gs://BUCKET or gs://BUCKET/FOLDER")] | None = (
        None
    )
    service_account: Account | None = None
    """That the jobs run as; None is Vertex AI's own."""
    jobs: dict[JobKey, JobSpec] = {}
    wandb: WandbSpec | None = None
    runner: RunnerSpec | None = None

    @field_validator("regions")
    @classmethod
    def _each_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("is empty; leave it out for the 18 usual ones")
        return tuple(dict.fromkeys(value))

    @property
    def queue(self) -> str | None:
        return self.wandb.queue if self.wandb else None

    @property
    def runner_region(self) -> str:
        return (self.runner.region if self.runner else None) or self.region

    def job(self, name: str | None) -> tuple[str, JobSpec]:
        """The named job with its key, or the only one. ConfigurationError when there is none."""
        known = ", ".join(self.jobs)
        if name is None and len(self.jobs) == 1:
            return next(iter(self.jobs.items()))
        if not self.jobs:
            raise ConfigurationError(
                "forge.yaml has no cloud.jobs: say there what to launch, such as"
                " `jobs: {train: {image: YOUR-IMAGE}}`"
            )
        if name is None:
            raise ConfigurationError(f"name the job to launch, there are several: {known}")
        if name not in self.jobs:
            raise ConfigurationError(
                f"{name}: no such job in cloud.jobs of forge.yaml; it has {known}"
            )
        return name, self.jobs[name]
