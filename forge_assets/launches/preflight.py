"""GO or NO-GO for a launch: everything that can be known before, asked at once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from forge_assets.cloud_config import JobSpec
from forge_assets.launches import preflight_google as google
from forge_assets.launches import preflight_queue as wandb_queue
from forge_assets.launches import preflight_supply as supply
from forge_assets.launches.clouds import Clouds
from forge_assets.launches.criterion import Criterion, LaunchPreflight
from forge_assets.launches.preflight_bucket import staging_bucket
from forge_assets.launches.preflight_config import Path, config_criteria
from resources.cloud import buckets
from resources.cloud import quota as quotas
from resources.cloud import registry as registries
from resources.cloud.ask_all import ask_all
from resources.cloud.credentials import fake_address
from resources.cloud.regions import utc_now
from resources.cloud.registry import Image
from resources.launch_store import Launch

__all__ = ["LaunchPreflight", "launch_preflight"]

SECONDS = 15.0
_LOOK_BACK = timedelta(days=7)

Questions = dict[str, Callable[[float], Any]]


def launch_preflight(
    clouds: Clouds,
    name: str,
    job: JobSpec,
    path: Path,
    region: str,
    seconds: float = SECONDS,
    now: Callable[[], datetime] = utc_now,
    history: Sequence[Launch] = (),
) -> LaunchPreflight:
    """``history``: recent launches, for region advice.

    It ends after ``seconds``, apart from the time that the clients take to load.
    """
    began = now()
    found = ask_all(_questions(clouds, job, path, region, began), seconds)
    criteria = [*config_criteria(clouds.config, name, job, path, region)]
    bucket = found.get("staging bucket")
    criteria.append(staging_bucket(bucket, clouds.config, path, clouds.project, region))
    asked = [found[key] for key in ("jobs", "runner job") if key in found]
    criteria.append(google.credentials(asked, clouds.project, clouds.access.credentials is None))
    criteria.append(google.job_api(found["jobs"], clouds.project, region))
    if path == "queue":
        criteria += _queue_criteria(clouds, found, began)
    criteria.append(supply.image(found.get("image"), job.image))
    criteria.append(_quota(clouds, job, region, found, began, history))
    criteria.append(google.waiting_jobs(found["jobs"], region, began))
    told = found.get("image")
    pinned = told.pinned if isinstance(told, Image) else job.image
    return LaunchPreflight(name, tuple(criteria), pinned)


def _questions(clouds: Clouds, job: JobSpec, path: Path, region: str, now: datetime) -> Questions:
    # Made here, since the first use of a client loads its library, which the deadline must not pay.
    vertex = clouds.vertex
    asked: Questions = {"jobs": lambda left: vertex.jobs(region, now - _LOOK_BACK, left)}
    images = {"image": job.image}
    if path == "queue":
        asked |= _queue_questions(clouds)
        if clouds.config.runner and clouds.config.runner.image:
            images["runner image"] = clouds.config.runner.image
    asked |= _bucket_question(clouds)
    address, is_asked = _endpoint(clouds, registries.VARIABLE)
    if is_asked:
        registry = registries.Registry(clouds.access, address)
        asked |= {key: _asking(registry.image, image) for key, image in images.items()}
    address, is_asked = _endpoint(clouds, quotas.VARIABLE)
    if is_asked:
        service = quotas.Quotas(clouds.access, address)
        metrics = dict(zip(("quota", "other quota"), _metrics(job), strict=True))
        asked |= {key: _asking(service.limits, metric) for key, metric in metrics.items() if metric}
    return asked


def _queue_questions(clouds: Clouds) -> Questions:
    wandb, runner, region = clouds.config.wandb, clouds.config.runner, clouds.config.runner_region
    asked: Questions = {}
    if wandb is not None and wandb.queue is not None:
        entity, queue = wandb.entity, wandb.queue
        # Without a key, the client cannot be made: the answer is that sentence.
        asked["queue"] = lambda left: clouds.wandb.queue(entity, queue, left)
        if runner is None:
            asked["agents"] = lambda left: clouds.wandb.agents(entity, left)
    if runner is not None:
        cloud_run, job = clouds.cloud_run, runner.job
        asked["runner job"] = lambda left: cloud_run.job(cloud_run.job_name(region, job), left)
    return asked


def _bucket_question(clouds: Clouds) -> Questions:
    address, path = buckets.emulator(clouds.environment), clouds.config.staging_bucket
    if path is None or not _is_asked(clouds, address):
        return {}
    storage = buckets.Buckets(clouds.access, address)
    return {"staging bucket": _asking(storage.bucket, buckets.bucket_name(path))}


def _asking(ask: Callable[[str, float], Any], what: str) -> Callable[[float], Any]:
    return lambda left: ask(what, left)


def _endpoint(clouds: Clouds, variable: str) -> tuple[str | None, bool]:
    """The local address if there is one, and whether to ask at all."""
    address = fake_address(variable, clouds.environment)
    return address, _is_asked(clouds, address)


def _is_asked(clouds: Clouds, address: str | None) -> bool:
    """Beside emulators the true service is not: it knows nothing of theirs, and costs a connection
    to the internet."""
    return address is not None or not clouds.access.fakes


def _metrics(job: JobSpec) -> tuple[str | None, str | None]:
    """Of the job's own scheduling and of the other kind; spot and flex-start share one."""
    if job.accelerator is None:
        return None, None
    preemptible = job.scheduling != "standard"
    return (
        quotas.metric(job.accelerator, preemptible),
        quotas.metric(job.accelerator, not preemptible),
    )


def _queue_criteria(clouds: Clouds, found: Mapping[str, Any], now: datetime) -> Iterator[Criterion]:
    wandb, runner = clouds.config.wandb, clouds.config.runner
    if wandb is None or wandb.queue is None:
        yield wandb_queue.no_queue()
    else:
        yield wandb_queue.queue(found["queue"], wandb)
    if runner is not None:
        place = clouds.config.runner_region
        yield google.runner_job(found["runner job"], runner, clouds.project, place)
        if runner.image:
            yield supply.image(found.get("runner image"), runner.image, "runner image")
    elif "agents" in found and wandb is not None:
        yield wandb_queue.agents(found["agents"], found["queue"], wandb, now)


def _quota(
    clouds: Clouds,
    job: JobSpec,
    region: str,
    found: Mapping[str, Any],
    now: datetime,
    history: Sequence[Launch],
) -> Criterion:
    return supply.quota(
        (found.get("quota"), found.get("other quota")),
        supply.wanted(job, region),
        _metrics(job)[0],
        found["jobs"],
        clouds.project,
        clouds.config.regions,
        now,
        history,
    )
