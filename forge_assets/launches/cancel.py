"""The end of a launch on request: its queue item is taken back, its job cancelled."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from forge_assets.launches.clouds import Clouds
from forge_assets.launches.launch_id import find_by_labels
from forge_assets.launches.queued_item import SETTLED, take_back
from resources.cloud.errors import NotFound, Refused
from resources.cloud.resource_name import short
from resources.cloud.vertex import Job
from resources.errors import Refusal
from resources.launch_store import Launch, LaunchStore

CALL_SECONDS = 15.0
POLLS = 20


@dataclass(frozen=True, slots=True)
class Cancelled:
    """``state``: of the job after the request, "" for a launch that never had one."""

    launch: Launch | None
    job: str
    state: str
    sentence: str
    done: bool


def cancel(
    name: str,
    clouds: Clouds,
    launches: LaunchStore,
    is_held: Callable[[Launch], bool],
    wait: Callable[[float], None],
    tell: Callable[[str], None],
) -> Cancelled:
    """``name``: of a launch, or of a job as `forge monitor` shows it. CloudError when it cannot be asked.

    ``is_held``: whether somebody is launching it this very moment.
    """
    launch = _named(name, launches, clouds.project)
    if launch is not None and is_held(launch):
        raise Refusal(
            f"launch {launch.short} is being made by {launch.holder}: wait, or end that process"
        )
    item = take_back(launch, clouds, CALL_SECONDS, tell) if launch is not None else ""
    jobs = _jobs(name, launch, item, clouds, wait, tell)
    if not jobs:
        if launch is None:
            newest = _newest(launches, clouds.project)
            raise Refusal(f"{name}: no launch has this id or name; the newest: {newest}")
        if launch.is_over:
            said = f"launch {launch.short} came to no job, it is {launch.state}: nothing to cancel"
            return Cancelled(launch, "", "", said, done=True)
        said = f"launch {launch.short} has no job" + (f"; {item}" if item else "")
        if item not in SETTLED:
            return Cancelled(launch, "", "", f"{said}, and its job may come: try again", done=False)
        launches.change(launch.id, "cancelled", state="cancelled", reason="cancelled on request")
        return Cancelled(launch, "", "", said, done=True)
    ended = [_cancel_job(job, clouds, wait, tell) for job in jobs]
    first = ended[0]
    if launch is not None and first.state == "CANCELLED":
        launches.change(
            launch.id, "cancelled", state="cancelled", job_name=first.name, reason="on request"
        )
    done = all(job.state in ("CANCELLED", "CANCELLING") for job in ended)
    said = f"job {short(first.name)} in {first.region} is {first.state}"
    return Cancelled(launch, first.name, first.state, said, done)


def _named(name: str, launches: LaunchStore, project: str) -> Launch | None:
    found = launches.named(name, project)
    if found and all((launch.execution or "").endswith(f"/{short(name)}") for launch in found):
        raise Refusal(
            f"{name} is a runner, through which other launches may go: name the launch or its job"
        )
    if len(found) > 1:
        ids = ", ".join(launch.id.hex[:12] for launch in found)
        raise Refusal(f"{name} names several launches: {ids}; write more of one id")
    return found[0] if found else None


def _newest(launches: LaunchStore, project: str) -> str:
    shown = [f"{launch.short} ({launch.job})" for launch in launches.recent(3, project)]
    return ", ".join(shown) or "none"


def _jobs(
    name: str,
    launch: Launch | None,
    item: str,
    clouds: Clouds,
    wait: Callable[[float], None],
    tell: Callable[[str], None],
) -> Sequence[Job]:
    """Every job of the launch; for a name that is none, the job with it, in any watched region."""
    if launch is None:
        if not short(name).isdigit():
            return []
        return [clouds.vertex.get(name, CALL_SECONDS)] if "/" in name else _anywhere(name, clouds)
    found = _jobs_of(launch, clouds)
    if found or item in SETTLED:
        return found
    tell(f"{item}: waiting for its job")
    for _ in range(POLLS):
        wait(1.0)
        found = _jobs_of(launch, clouds)
        if found:
            break
    return found


def _jobs_of(launch: Launch, clouds: Clouds) -> Sequence[Job]:
    """By its labels, and the one that the store knows by name."""
    found = find_by_labels(clouds.vertex, launch, CALL_SECONDS, launch.wandb_run)
    if found or launch.job_name is None:
        return found
    try:
        return [clouds.vertex.get(launch.job_name, CALL_SECONDS)]
    except NotFound:
        return []


def _anywhere(number: str, clouds: Clouds) -> Sequence[Job]:
    from resources.cloud.listing import Listing
    from resources.cloud.regions import read_regions

    regions = tuple(dict.fromkeys((clouds.config.region, *clouds.config.regions)))

    def get(region: str, seconds: float) -> Listing[Job]:
        name = f"projects/{clouds.project}/locations/{region}/customJobs/{number}"
        try:
            return Listing((clouds.vertex.get(name, seconds),))
        except NotFound:
            return Listing(())

    reads = read_regions(get, regions, CALL_SECONDS)
    found = [job for read in reads for job in read.rows]
    unread = [f"{read.region} ({read.state})" for read in reads if read.state != "ok"]
    if not found and unread:
        raise Refusal(f"job {number} was not found, and not every region could be read: {unread}")
    return found


def _cancel_job(
    job: Job, clouds: Clouds, wait: Callable[[float], None], tell: Callable[[str], None]
) -> Job:
    """Ask, then look until it says CANCELLED; one that was over before stays as it is."""
    if job.is_over:
        return job
    tell(f"cancelling job {short(job.name)} in {job.region}, {job.state}")
    try:
        clouds.vertex.cancel(job.name, CALL_SECONDS)
    except Refused:
        # It ended between the look and the request.
        return clouds.vertex.get(job.name, CALL_SECONDS)
    for _ in range(POLLS):
        now = clouds.vertex.get(job.name, CALL_SECONDS)
        if now.is_over:
            return now
        wait(1.0)
    return now
