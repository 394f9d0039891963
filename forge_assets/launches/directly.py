"""A job created by ourselves."""

from collections.abc import Callable, Sequence
from datetime import timedelta

from forge_assets.launches.confirm import CALL_SECONDS
from forge_assets.launches.job_request import custom_job
from forge_assets.launches.launch_id import LABEL, label_value
from forge_assets.launches.outcome import LaunchResult
from forge_assets.launches.submit import OutcomeUnknown, Pace, once
from forge_assets.launches.verdict import Under
from resources.cloud.errors import CloudError
from resources.cloud.vertex import Job

CREATE_SECONDS = 20.0
SKEW = timedelta(minutes=10)
"""Between the database's clock and Google's."""


def submitted(
    image: str,
    under: Under,
    clock: Callable[[], float],
    pace: Pace,
) -> LaunchResult:
    """Create the job, unless this launch has one already, and see it in the API's own list."""
    launch, clouds = under.launch, under.clouds
    vertex = clouds.vertex
    request = custom_job(launch.job, under.spec, image, launch.id, clouds.config)

    def jobs() -> Sequence[Job]:
        return find_jobs(under, CALL_SECONDS)

    def create() -> Sequence[Job]:
        under.launches.change(launch.id, "create_sent", {"image": image})
        return [vertex.create(launch.region, request, CREATE_SECONDS)]

    if under.goes_on:
        try:
            there = jobs()
        except CloudError as error:
            raise OutcomeUnknown(
                f"whether launch {launch.id.hex[:8]} has a job already cannot be looked up: {error}"
            ) from error
        if there:
            return under.found(there)
    pace.tell(f"creating the job in {launch.region}")
    made = once(create, lambda: jobs() or None, "the job's creation", pace)
    under.launches.change(launch.id, "created", job_name=made[0].name)
    try:
        made = jobs() or made
    except CloudError as error:
        pace.tell(f"the job was created; the list of jobs could not be read: {error}")
    return under.found(made)


def find_jobs(under: Under, seconds: float, run: str | None = None) -> Sequence[Job]:
    """Of this launch: by our label, else by the label that W&B's runner gives."""
    launch, vertex = under.launch, under.clouds.vertex
    assert launch.created_at is not None
    since = launch.created_at - SKEW
    found = vertex.find(launch.region, LABEL, label_value(launch.id), since, seconds)
    if not found and run and run == run.lower():
        found = vertex.find(launch.region, "wandb-run-id", run, since, seconds)
    return found
