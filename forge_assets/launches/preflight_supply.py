"""What of a launch's preflight is about supply: the image at its registry, the quota. Pure.

That a registry or the quota's service cannot be read stops no launch: Vertex AI reads them itself.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from forge_assets.cloud_config import JobSpec
from forge_assets.launches.catalogue import Entry, entries
from forge_assets.launches.criterion import Criterion
from forge_assets.launches.region_advice import Wanted, advice
from resources.cloud.errors import CloudError, Denied, NotFound
from resources.cloud.listing import Listing
from resources.cloud.quota import UNLIMITED, Limits
from resources.cloud.registry import PLATFORM, Image
from resources.cloud.vertex import Job
from resources.launch_store import Launch


def image(answer: Image | CloudError | None, asked: str, what: str = "image") -> Criterion:
    """None: no registry was asked."""
    if answer is None:
        said = "does not apply here: no registry beside the emulator"
        return Criterion(what, "not_applicable", said)
    if isinstance(answer, NotFound):
        return Criterion(what, "no", str(answer), _entry("I02").advice)
    if isinstance(answer, CloudError):
        fix = _entry("I01").advice if isinstance(answer, Denied) else ""
        return Criterion(what, "unknown", f"{asked}: {answer}", fix, needed=False)
    if answer.fits is False:
        platforms = ", ".join(answer.platforms)
        said = f"{asked} is for {platforms}: on {PLATFORM} it ends with 'exec format error'"
        return Criterion(what, "no", said, f"docker build --platform {PLATFORM} …, and push it")
    if answer.fits is None:
        said = f"{answer.pinned}, for which machines is not told"
        return Criterion(what, "warning", said)
    return Criterion(what, "ok", answer.pinned)


def wanted(job: JobSpec, region: str) -> Wanted:
    number = job.accelerators * job.replicas if job.accelerator else 0
    return Wanted(job.accelerator or "", number, region, job.scheduling)


def quota(
    answers: tuple[Limits | CloudError | None, Limits | CloudError | None],
    asked: Wanted,
    metric: str | None,
    jobs: Listing[Job] | CloudError,
    project: str,
    regions: Sequence[str],
    now: datetime,
    history: Sequence[Launch],
) -> Criterion:
    """``answers``: of the job's own scheduling, and of the other kind; None: nobody was asked."""
    what = "quota"
    answer, other = answers
    if not asked.accelerator:
        return Criterion(what, "not_applicable", "no accelerator is asked for")
    if metric is None:
        said = f"the metric of {asked.accelerator} is not known here"
        return Criterion(what, "unknown", said, needed=False)
    if answer is None:
        said = "does not apply here: no Service Usage beside the emulator"
        return Criterion(what, "not_applicable", said)
    if isinstance(answer, CloudError):
        return Criterion(what, "unknown", str(answer), needed=False)
    limit = answer.of(asked.region)
    short = metric.rsplit("/", 1)[-1]
    if limit is None:
        said = f"Service Usage tells no {short} of {asked.region}"
        return Criterion(what, "unknown", said, needed=False)
    number = "no limit" if limit == UNLIMITED else str(limit)
    said = f"{short} in {asked.region} is {number}, the job asks for {asked.number}"
    if limit >= asked.number:
        return Criterion(what, "ok", said + _in_use(jobs, asked.region))
    tried = advice(
        "quota",
        asked,
        regions,
        now,
        _by_region(answer, regions),
        _by_region(other, regions),
        history,
    )
    console = (
        f"https://console.cloud.google.com/iam-admin/quotas?project={project}"
        f"&service=aiplatform.googleapis.com&metric={short}"
    )
    return Criterion(what, "no", said, "; ".join((*tried, f"ask for more at {console}")))


def _in_use(jobs: Listing[Job] | CloudError, region: str) -> str:
    """Only told, never counted: a job's accelerators are not in the listing."""
    if not isinstance(jobs, Listing):
        return ""
    running = sum(job.state in ("RUNNING", "PENDING") for job in jobs.rows)
    return f"; {running} jobs run in {region} now"


def _by_region(
    answer: Limits | CloudError | None, regions: Sequence[str]
) -> Mapping[str, int | None] | None:
    if not isinstance(answer, Limits):
        return None
    return {region: answer.of(region) for region in regions}


def _entry(id_: str) -> Entry:
    return next(entry for entry in entries() if entry.id == id_)
