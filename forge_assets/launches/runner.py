"""The runner: a Cloud Run execution with the W&B Launch agent of a queue; reused or started."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from forge_assets.cloud_config import CloudConfig, RunnerSpec, WandbSpec
from forge_assets.launches.launch_id import VARIABLE
from forge_assets.launches.submit import Pace, once
from resources.cloud.cloud_run import CloudRun, Execution, RunnerJob
from resources.cloud.errors import CloudError, NotFound, Refused, TimedOut
from resources.cloud.resource_name import short

OURS = "forge_runner"
"""Label of a job that runs the image of deploy/runner; its value is the hash of the job's spec."""
TARGET_REGION = "FORGE_TARGET_REGION"
"""Where a runner of ours starts the jobs whose queue item names no region."""

LONGEST_LIFE = timedelta(days=7)
"""Of an execution, as Cloud Run allows it."""
CALL_SECONDS = 10.0
READY_POLLS = 60


@dataclass(frozen=True, slots=True)
class Runner:
    execution: Execution
    reused: bool


def ensure_runner(
    cloud_run: CloudRun, cloud: CloudConfig, launch: UUID, now: datetime, pace: Pace
) -> Runner:
    """A live execution that listens to the queue, else a new one.

    CloudError when there is none and none could be started; OutcomeUnknown when that cannot be told.
    """
    spec, wandb = cloud.runner, cloud.wandb
    assert spec is not None
    assert wandb is not None
    assert wandb.queue is not None
    place, queue = cloud.runner_region, wandb.queue

    def live() -> Execution | None:
        found = cloud_run.executions(place, now - LONGEST_LIFE, CALL_SECONDS).whole()
        return next((each for each in found if serves(each, wandb.entity, queue)), None)

    running = live()
    if running is not None:
        pace.tell(f"runner {short(running.name)} listens to {queue} already, {running.state}")
        return Runner(running, reused=True)
    job = cloud_run.job_name(place, spec.job)
    _prepare(cloud_run, job, place, spec, runner_job(spec, wandb, cloud.region), pace)
    pace.tell(f"starting runner {spec.job} in {place} for queue {queue}")
    environment = {VARIABLE: launch.hex}
    started = once(
        lambda: cloud_run.run(job, environment, CALL_SECONDS), live, "the runner's start", pace
    )
    pace.tell(f"runner {short(started.name)} starting, {started.state}")
    return Runner(started, reused=False)


def serves(execution: Execution, entity: str, queue: str) -> bool:
    """Whether an execution lives and its agent takes the items of this entity's queue.

    One whose command line names no entity is taken at the queue's word.
    """
    entities = options(execution.args, "-e", "--entity")
    return (
        execution.state in ("PENDING", "RUNNING")
        and queue in queues(execution.args)
        and (not entities or entity in entities)
    )


def queues(args: Sequence[str]) -> list[str]:
    """The queues that an agent's command line names: ``-q Q``, ``--queue Q``, ``--queue=Q``."""
    return options(args, "-q", "--queue")


def options(args: Sequence[str], *names: str) -> list[str]:
    """The values of an option that may be given several times."""
    return list(_options(args, names))


def _options(args: Sequence[str], names: Sequence[str]) -> Iterator[str]:
    for position, argument in enumerate(args):
        name, equals, value = argument.partition("=")
        if name not in names:
            continue
        if equals:
            yield value
        elif position + 1 < len(args):
            yield args[position + 1]


def runner_job(spec: RunnerSpec, wandb: WandbSpec, region: str) -> Mapping[str, Any] | None:
    """The Cloud Run job as it should be; None when forge.yaml leaves it to somebody else."""
    if spec.image is None:
        return None
    assert wandb.queue is not None
    variables: list[dict[str, Any]] = [{"name": TARGET_REGION, "value": region}]
    if spec.secret:
        reference = {"secret_key_ref": {"secret": spec.secret, "version": "latest"}}
        variables.append({"name": "WANDB_API_KEY", "value_source": reference})
    container = {
        "image": spec.image,
        "args": [
            *("--queue", wandb.queue, "--entity", wandb.entity),
            *("--idle-stop", str(int(spec.idle_stop))),
        ],
        "env": variables,
        "resources": {"limits": {"cpu": "2", "memory": "2Gi"}},
    }
    task: dict[str, Any] = {
        "containers": [container],
        # A runner that failed is looked at, not started again and again.
        "max_retries": 0,
        "timeout": {"seconds": 24 * 3600},
    }
    if spec.service_account:
        task["service_account"] = spec.service_account
    made: dict[str, Any] = {"template": {"task_count": 1, "template": task}}
    digest = hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()[:32]
    return {**made, "labels": {OURS: digest}}


def _prepare(
    cloud_run: CloudRun,
    name: str,
    place: str,
    spec: RunnerSpec,
    wanted: Mapping[str, Any] | None,
    pace: Pace,
) -> None:
    """Create the job, or update it when it is another one than wanted; wait until it can be run."""

    def is_there() -> bool:
        try:
            cloud_run.job(name, CALL_SECONDS)
        except NotFound:
            return False
        return True

    def is_wanted() -> bool | None:
        """None when it is not, as a look for an effect tells it."""
        assert wanted is not None
        try:
            job = cloud_run.job(name, CALL_SECONDS)
        except NotFound:
            return None
        return True if job.labels.get(OURS) == wanted["labels"][OURS] else None

    if wanted is None:
        if not is_there():
            raise Refused(
                f"there is no Cloud Run job {spec.job} in {place}, and forge.yaml names no"
                " cloud.runner.image to make it of"
            )
        return
    if is_wanted():
        return

    def make() -> bool:
        if is_there():
            pace.tell(f"updating runner job {spec.job} in {place}")
            cloud_run.update_job(name, wanted, CALL_SECONDS)
        else:
            pace.tell(f"creating runner job {spec.job} in {place}")
            _create(cloud_run, place, spec.job, wanted)
        return True

    once(make, is_wanted, "the runner job's making", pace)
    _await_ready(cloud_run, name, pace)


def _create(cloud_run: CloudRun, place: str, job: str, wanted: Mapping[str, Any]) -> None:
    try:
        cloud_run.create_job(place, job, wanted, CALL_SECONDS)
    except Refused as error:
        # Somebody else created it in the meantime: the same job, then.
        if error.code != "ALREADY_EXISTS":
            raise


def _await_ready(cloud_run: CloudRun, name: str, pace: Pace) -> None:
    for _ in range(READY_POLLS):
        job: RunnerJob = cloud_run.job(name, CALL_SECONDS)
        if job.state == "SUCCEEDED":
            return
        if job.state == "FAILED":
            raise CloudError(f"the runner job {short(name)} cannot be run: {job.message}")
        pace.wait(1.0)
    raise TimedOut(f"the runner job {short(name)} was not ready after {READY_POLLS} s")
