"""What is sent for a job: a CustomJob of Vertex AI, or an item of a W&B Launch queue that becomes one."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from forge_assets.cloud_config import CloudConfig, JobSpec, Strategy, WandbSpec
from forge_assets.launches.launch_id import LABEL, VARIABLE, label_value

_STRATEGIES: dict[Strategy, str] = {
    "standard": "STANDARD",
    "spot": "SPOT",
    "flex-start": "FLEX_START",
}


def display_name(name: str, launch: UUID) -> str:
    return f"{name}-{launch.hex[:8]}"


def spec_hash(spec: JobSpec, path: str, region: str) -> str:
    """Of what was asked for: a launch goes on only with the same."""
    asked = json.dumps([spec.model_dump(mode="json"), path, region], sort_keys=True)
    return hashlib.sha256(asked.encode()).hexdigest()[:32]


def custom_job(
    name: str, spec: JobSpec, image: str, launch: UUID, cloud: CloudConfig
) -> Mapping[str, Any]:
    """A CustomJob as nested mappings that JSON can hold."""
    container: dict[str, Any] = {
        "image_uri": image,
        "command": list(spec.command),
        "args": list(spec.args),
        "env": [
            {"name": key, "value": value}
            for key, value in {**spec.env, VARIABLE: launch.hex}.items()
        ],
    }
    job_spec: dict[str, Any] = {
        "worker_pool_specs": _pools(spec, container),
        "scheduling": _scheduling(spec),
    }
    if cloud.service_account:
        job_spec["service_account"] = cloud.service_account
    if cloud.staging_bucket:
        prefix = f"{cloud.staging_bucket.rstrip('/')}/{display_name(name, launch)}"
        job_spec["base_output_directory"] = {"output_uri_prefix": prefix}
    return {
        "display_name": display_name(name, launch),
        "labels": {LABEL: label_value(launch)},
        "job_spec": job_spec,
    }


def queue_item(
    name: str,
    spec: JobSpec,
    image: str,
    launch: UUID,
    region: str,
    cloud: CloudConfig,
    wandb: WandbSpec,
) -> Mapping[str, Any]:
    """The run spec of a W&B Launch queue: shape as ``wandb launch`` pushes it (wandb 0.31).

    ``region``, ``scheduling_strategy`` and ``max_wait_duration`` are words that only our runner
    image knows.
    """
    container = {
        "image_uri": image,
        # Not among the overrides: W&B's runner would put them in place of the image's entry point.
        "args": list(spec.args),
        "env": [
            {"name": key, "value": value}
            for key, value in {**spec.env, VARIABLE: launch.hex}.items()
        ],
    }
    run: dict[str, Any] = {
        "region": region,
        "scheduling_strategy": _STRATEGIES[spec.scheduling],
    }
    if spec.timeout is not None:
        run["timeout"] = math.ceil(spec.timeout)
    if spec.max_wait is not None:
        run["max_wait_duration"] = math.ceil(spec.max_wait)
    if cloud.service_account:
        run["service_account"] = cloud.service_account
    vertex = {
        "spec": {
            "worker_pool_specs": _pools(spec, container),
            "staging_bucket": cloud.staging_bucket,
            "labels": {LABEL: label_value(launch)},
        },
        "run": run,
    }
    return {
        "name": display_name(name, launch),
        # Our own id becomes the run's: one name from the queue to W&B.
        "run_id": label_value(launch),
        "target_entity": wandb.entity,
        "target_project": wandb.project,
        "docker": {"docker_image": image},
        "overrides": {
            "entry_point": list(spec.command),
            "args": [],
            "run_config": {LABEL: label_value(launch)},
        },
        "resource": "vertex",
        "resource_args": {"vertex": vertex},
    }


def _pools(spec: JobSpec, container: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The first pool is the chief, and the API wants exactly one there."""
    machine: dict[str, Any] = {"machine_type": spec.machine}
    if spec.accelerator:
        machine |= {"accelerator_type": spec.accelerator, "accelerator_count": spec.accelerators}
    pool = {
        "machine_spec": machine,
        "disk_spec": {"boot_disk_type": "pd-ssd", "boot_disk_size_gb": spec.boot_disk_gb},
        "container_spec": container,
    }
    counts = [1] if spec.replicas == 1 else [1, spec.replicas - 1]
    return [{**pool, "replica_count": count} for count in counts]


def _scheduling(spec: JobSpec) -> dict[str, Any]:
    made: dict[str, Any] = {"strategy": _STRATEGIES[spec.scheduling]}
    if spec.timeout is not None:
        made["timeout"] = {"seconds": math.ceil(spec.timeout)}
    if spec.max_wait is not None:
        made["max_wait_duration"] = {"seconds": math.ceil(spec.max_wait)}
    return made
