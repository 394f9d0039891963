"""A job created by ourselves."""

from collections.abc import Sequence

from forge_assets.launches.confirm import CALL_SECONDS
from forge_assets.launches.job_request import custom_job
from forge_assets.launches.launch_id import find_by_labels
from forge_assets.launches.outcome import LaunchResult
from forge_assets.launches.submit import Pace, once
from forge_assets.launches.verdict import Under
from resources.cloud.errors import CloudError
from resources.cloud.vertex import Job

CREATE_SECONDS = 20.0


def submitted(image: str, under: Under, pace: Pace) -> LaunchResult:
    """Create the job and see it in the API's own list."""
    launch, clouds = under.launch, under.clouds
    vertex = clouds.vertex
    request = custom_job(launch.job, under.spec, image, launch.id, clouds.config)

    def jobs() -> Sequence[Job]:
        return find_jobs(under, CALL_SECONDS)

    def create() -> Sequence[Job]:
        under.sending("create_sent", image=image)
        return [vertex.create(launch.region, request, CREATE_SECONDS)]

    pace.tell(f"creating the job in {launch.region}")
    made = once(create, lambda: jobs() or None, "the job's creation", pace)
    under.launches.change(launch.id, "created", job_name=made[0].name)
    try:
        made = jobs() or made
    except CloudError as error:
        pace.tell(f"the job was created; the list of jobs could not be read: {error}")
    return under.found(made)


def find_jobs(under: Under, seconds: float, run: str | None = None) -> Sequence[Job]:
    """Of this launch and of no other."""
    return find_by_labels(under.clouds.vertex, under.launch, seconds, run)
