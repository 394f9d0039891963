"""The section `cloud:` of forge.yaml: where jobs run, what they are, and who starts them."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from forge_assets.config_types import Like, Seconds, Section
from resources.cloud.regions import REGIONS
from resources.errors import ConfigurationError

_REGION = re.compile(r"[a-z]+-[a-z]+[0-9]+")
_PROJECT = re.compile(r"(?:[a-z0-9.-]+:)?[a-z][a-z0-9-]{0,29}|[0-9]{6,20}")
_RUN_NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,47}[a-z0-9])?")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]*(?:@sha256:[0-9a-f]{64})?")
_BUCKET = re.compile(r"gs://[a-z0-9][a-z0-9._-]+(?:/[^\n]*)?")
_W_AND_B = re.compile(r"[\w.-]+")
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_PLAIN = re.compile(r"[^\x00-\x1f\x7f]*")
_MACHINE = re.compile(r"[a-z0-9-]+")
_ACCELERATOR = re.compile(r"(?:NVIDIA|TPU|AMD)_[A-Z0-9_]+")
_ACCOUNT = re.compile(r"[a-zA-Z0-9._-]+@[a-zA-Z0-9.-]+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


Region = Annotated[str, Like(_REGION, "a region such as us-central1")]
Project = Annotated[str, Like(_PROJECT, "a project's id: small letters, digits and '-'")]
RunName = Annotated[str, Like(_RUN_NAME, "small letters, digits and '-', 49 at most")]
Image = Annotated[str, Like(_IMAGE, "an image, such as us-docker.pkg.dev/P/R/train:v1")]
WandbName = Annotated[str, Like(_W_AND_B, "a name of letters, digits, '.', '_' and '-'")]
JobKey = Annotated[str, Like(_KEY, "letters, digits, '-' and '_'")]
Variable = Annotated[str, Like(_VARIABLE, "the name of an environment variable")]

Bucket = Annotated[str, Like(_BUCKET, "gs://BUCKET or gs://BUCKET/FOLDER")]
Text = Annotated[str, Like(_PLAIN, "without control characters")]
Account = Annotated[str, Like(_ACCOUNT, "a service account's address")]
Machine = Annotated[str, Like(_MACHINE, "a machine type such as n1-standard-4")]
Accelerator = Annotated[str, Like(_ACCELERATOR, "Vertex AI's name, such as NVIDIA_L4")]
AtLeastASecond = Annotated[Seconds, Field(ge=1)]

Strategy = Literal["standard", "spot", "flex-start"]


class JobSpec(Section):
    """One kind of job: what runs, on which machines, under which scheduling."""

    image: Image = Field(description="The container image, by tag or digest.")
    command: tuple[Text, ...] = Field(default=(), description="Instead of the image's entry point.")
    args: tuple[Text, ...] = Field(default=(), description="Arguments of the command.")
    env: dict[Variable, Text] = Field(
        default={},
        description="Environment variables. No secrets: they are shown in the job.",
    )
    machine: Machine = Field(default="n1-standard-4", description="Machine type.")
    accelerator: Accelerator | None = Field(
        default=None,
        description="Vertex AI's name of the GPU, such as `NVIDIA_TESLA_T4`, `NVIDIA_L4` or"
        " `NVIDIA_H100_80GB`.",
    )
    accelerators: int = Field(
        default=1, ge=1, le=16, description="GPUs of each replica; counts only with `accelerator`."
    )
    replicas: int = Field(
        default=1, ge=1, le=1000, description="How many machines; the first is the chief."
    )
    boot_disk_gb: int = Field(
        default=100, ge=100, le=64000, description="SSD of each replica, in GB."
    )
    scheduling: Strategy = Field(
        default="standard",
        description="`spot` may be preempted; `flex-start` waits for capacity up to `max_wait`.",
    )
    max_wait: AtLeastASecond | None = Field(
        default=None,
        description="How long to wait for capacity; only with `flex-start`. Without it the API's day.",
    )
    timeout: AtLeastASecond | None = Field(
        default=None, description="How long the job may run. Without it the API's 7 days."
    )
    region: Region | None = Field(
        default=None, description="Where this job runs. Without it `cloud.region`."
    )

    @model_validator(mode="after")
    def _wait_is_of_flex_start(self) -> "JobSpec":
        if self.max_wait is not None and self.scheduling != "flex-start":
            raise ValueError("max_wait goes with 'scheduling: flex-start' only; remove one")
        return self


class WandbSpec(Section):
    """Where runs are, and the W&B Launch queue that launches go through when there is one."""

    entity: WandbName = Field(description="User or team.")
    project: WandbName = Field(description="Where runs go.")
    queue: WandbName | None = Field(
        default=None, description="W&B Launch queue; with it launches go through it."
    )


class RunnerSpec(Section):
    """The Cloud Run job that runs the W&B Launch agent."""

    job: RunName = Field(default="vertex-ai-launcher", description="Name of the Cloud Run job.")
    region: Region | None = Field(
        default=None, description="Where the runner lives. Without it `cloud.region`."
    )
    image: Image | None = Field(
        default=None,
        description="Built from `deploy/runner`. Without it the Cloud Run job must be there and is"
        " used as it is.",
    )
    service_account: Account | None = Field(
        default=None, description="Account that the runner runs as."
    )
    secret: WandbName | None = Field(
        default=None,
        description="Name in Secret Manager of the W&B key. Without it the image or the job must"
        " have the key.",
    )
    idle_stop: Seconds = Field(
        default=1800.0, description="The runner ends after so long without a job."
    )


class CloudConfig(Section):
    """Where jobs are launched, what they are, and who starts them."""

    project: Project | None = Field(
        default=None,
        description="Project of Google Cloud. Without it `GOOGLE_CLOUD_PROJECT`, else that of the"
        " credentials.",
    )
    region: Region = Field(default="us-central1", description="Where jobs run.")
    regions: tuple[Region, ...] = Field(
        default=REGIONS, description="What the monitor and the sensors watch."
    )
    staging_bucket: Bucket | None = Field(
        default=None,
        description="`gs://BUCKET` or `gs://BUCKET/FOLDER`; needed when launches go through a queue.",
    )
    service_account: Account | None = Field(
        default=None, description="Account that the jobs run as. Without it Vertex AI's own."
    )
    jobs: dict[JobKey, JobSpec] = Field(
        default={}, description="What can be launched, by the name that `forge launch` takes."
    )
    wandb: WandbSpec | None = Field(
        default=None, description="Weights & Biases. Without it jobs are launched directly."
    )
    runner: RunnerSpec | None = Field(
        default=None,
        description="The runner's Cloud Run job. Without it the queue's agents are your own.",
    )

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
