"""What of a launch's preflight forge.yaml alone tells. Pure."""

from collections.abc import Sequence
from typing import Literal

from forge_assets.cloud_config import CloudConfig, JobSpec
from forge_assets.launches.criterion import Criterion
from forge_assets.launches.machine_types import FLEX_START, doubt, misfit
from forge_assets.launches.region_advice import is_there

Path = Literal["direct", "queue"]

LONGEST_FLEX_START_SECONDS = 7 * 24 * 3600.0


def config_criteria(
    config: CloudConfig, name: str, job: JobSpec, path: Path, region: str
) -> Sequence[Criterion]:
    """The first holds of whoever looks: who does not get the lease does not come this far."""
    return (
        Criterion("active launch", "ok", "this launch holds the lease"),
        _machine(name, job, region),
        _scheduling(config, name, job, path),
    )


def _machine(name: str, job: JobSpec, region: str) -> Criterion:
    what = "machine"
    wrong = misfit(job)
    if wrong is not None:
        return Criterion(what, "no", wrong[0], f"in cloud.jobs.{name} of forge.yaml: {wrong[1]}")
    asked = f"{job.replicas} x {job.machine}"
    if job.accelerator:
        asked += f" with {job.accelerators} {job.accelerator}"
    uncertain = doubt(job)
    if job.accelerator and not is_there(job.accelerator, region):
        uncertain = f"{job.accelerator} is not known to be in {region}"
    if uncertain:
        return Criterion(what, "warning", f"{asked}: {uncertain}")
    return Criterion(what, "ok", asked)


def _scheduling(config: CloudConfig, name: str, job: JobSpec, path: Path) -> Criterion:
    what, asked = "scheduling", job.scheduling
    here = f"cloud.jobs.{name} of forge.yaml"
    if asked == "flex-start" and job.accelerator not in FLEX_START:
        said = f"flex-start is for {', '.join(sorted(FLEX_START))}, not for {job.accelerator}"
        return Criterion(what, "no", said, f"set `scheduling: standard` in {here}")
    if asked == "flex-start" and (job.timeout or 0) > LONGEST_FLEX_START_SECONDS:
        said = "flex-start takes a timeout of 7 days at most"
        return Criterion(what, "no", said, f"set `timeout: 7d` in {here}")
    ours = config.runner is not None and config.runner.image is not None
    if path == "queue" and asked != "standard" and not ours:
        said = (
            f"W&B's own Vertex runner drops `scheduling: {asked}`, only our runner image keeps it"
        )
        fix = (
            f"set `scheduling: standard` in {here}, or cloud.runner.image to the image of "
            "deploy/runner, or launch with --direct"
        )
        return Criterion(what, "no", said, fix)
    return Criterion(what, "ok", asked)
