"""What `forge diagnose` is asked about: the execution, job or launch behind a name, and its reason."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from forge_assets.cloud_config import JobSpec
from forge_assets.launches.catalogue import classify
from forge_assets.launches.clouds import Clouds
from forge_assets.launches.execution_watch import find_execution
from forge_assets.launches.launch_id import find_by_labels
from forge_assets.launches.reason import NOTHING, Reason
from forge_assets.launches.reasons import execution_reason, job_reason
from forge_assets.launches.region_advice import HISTORY, where_else
from resources.cloud.cloud_run import Execution
from resources.cloud.errors import NotFound
from resources.cloud.listing import Listing
from resources.cloud.regions import RegionRead, read_regions
from resources.cloud.vertex import Job
from resources.diagnosis_store import DiagnosisStore
from resources.errors import ConfigurationError, Refusal
from resources.launch_store import Launch, LaunchEvent, LaunchStore

SEARCH_SECONDS = 10.0
REASON_SECONDS = 30.0

RETRY_RULES: Mapping[str, str] = {
    "no": "do not try again before the program is corrected",
    "fix": "try again when a person has changed what is wrong",
    "wait": "wait, it goes on by itself",
    "same": "wait a while and try again in the same place",
    "region": "try another region or accelerator",
    "once": "try once more, then stop",
}
"""By the catalogue's word."""

_EXECUTION = re.compile(r"projects/[^/]+/locations/[^/]+/jobs/[^/]+/executions/[^/]+")
_JOB = re.compile(r"projects/[^/]+/locations/[^/]+/customJobs/[^/]+")

Resource = Execution | Job
T = TypeVar("T", Execution, Job)


@dataclass(frozen=True)
class Diagnosed:
    """``resource``: None for a launch that has neither job nor execution; ``launch``: None unless
    it was asked for by a name of its own, and ``history`` then has every step of it;
    ``elsewhere``: where there may be room for its job."""

    resource: Resource | None
    launch: Launch | None
    reason: Reason
    elsewhere: Sequence[str] = ()
    history: Sequence[LaunchEvent] = ()

    @property
    def name(self) -> str:
        if self.resource is not None:
            return self.resource.name
        assert self.launch is not None
        return str(self.launch.id)

    @property
    def state(self) -> str:
        if self.resource is not None:
            return self.resource.state
        assert self.launch is not None
        return self.launch.state

    @property
    def is_answered(self) -> bool:
        """Whether it is fine, or why not was found. A state that nobody knows is not fine."""
        if self.resource is None or self.reason.is_found:
            return self.reason.is_found
        over = self.resource.is_over and self.state != "SUCCEEDED"
        return not over and self.state != "UNKNOWN"

    def as_json(self) -> dict[str, Any]:
        cause, launch = self.reason.cause, self.launch
        times = {
            name: moment.isoformat() if (moment := getattr(self.resource, name, None)) else None
            for name in ("created", "started", "ended")
        }
        return {
            "name": self.name,
            "state": self.state,
            **times,
            "reason": self.reason.text,
            "source": self.reason.source,
            "class": cause.entry.error_class if cause else None,
            "id": cause.entry.id if cause else None,
            "retry": RETRY_RULES[cause.entry.retry] if cause else None,
            "advice": self.reason.advice or None,
            "elsewhere": list(self.elsewhere),
            "logs": self.reason.logs,
            "context": list(self.reason.context),
            "history": [{"at": event.at.isoformat(), "kind": event.kind} for event in self.history],
            "launch": {"id": str(launch.id), "state": launch.state} if launch else None,
        }


def diagnose(
    name: str,
    clouds: Clouds,
    launches: LaunchStore,
    diagnoses: DiagnosisStore | None,
    now: Callable[[], datetime],
) -> Diagnosed:
    """``name``: of an execution or a Vertex AI job, full or short, or any of a launch's names.

    Refusal, with where it was looked for, when there is no such thing.
    """
    full, launch = _in_store(name, launches, clouds.project)
    if launch is not None and launch.job_name is None:
        # Its job may have come after the launcher looked for it.
        jobs = find_by_labels(clouds.vertex, launch, SEARCH_SECONDS, launch.wandb_run)
        full = jobs[0].name if jobs else full
    if launch is not None and full is None:
        reason = _of_launch(launch)
        elsewhere = _elsewhere(launch, reason, clouds, launches, now())
        return Diagnosed(None, launch, reason, elsewhere, launches.events(launch.id))
    resource = _found(full or name, clouds, now)
    seconds, at = REASON_SECONDS, now()
    if isinstance(resource, Execution):
        reason = execution_reason(clouds, diagnoses, resource, seconds, at)
    else:
        reason = job_reason(clouds, diagnoses, resource, seconds, at)
    elsewhere = _elsewhere(launch, reason, clouds, launches, at)
    history = launches.events(launch.id) if launch is not None else ()
    return Diagnosed(resource, launch, reason, elsewhere, history)


def _elsewhere(
    launch: Launch | None, reason: Reason, clouds: Clouds, launches: LaunchStore, now: datetime
) -> Sequence[str]:
    """Only of a launch of ours is known what it asked for."""
    if launch is None or reason.cause is None or "asked" not in launch.spec:
        return ()
    spec = JobSpec.model_validate(launch.spec["asked"])
    return where_else(
        reason.cause.entry.error_class,
        spec,
        launch.region,
        clouds.config.regions,
        now,
        launches.recent(HISTORY, clouds.project),
    )


def _in_store(name: str, launches: LaunchStore, project: str) -> tuple[str | None, Launch | None]:
    """The full name of what a launch knows under ``name``, and the launch that was named."""
    known = launches.named(name, project)
    last = "/" + name.rsplit("/", 1)[-1]
    for launch in known:
        if launch.job_name and launch.job_name.endswith(last):
            return launch.job_name, launch
        # Several launches may have gone through one runner: none of them is meant.
        if launch.execution and launch.execution.endswith(last):
            return launch.execution, None
    if len(known) > 1:
        some = ", ".join(str(launch.id) for launch in known[:5])
        raise Refusal(
            f"{name}: {len(known)} launches have such a name ({some}); give more of the id"
        )
    if not known:
        return None, None
    return known[0].job_name or known[0].execution, known[0]


def _of_launch(launch: Launch) -> Reason:
    """Of one that came neither to a job nor to an execution."""
    if not launch.reason:
        return Reason(NOTHING, f"it is {launch.state}, and has neither a job nor an execution")
    return Reason("launch", launch.reason, classify(launch.reason))


def _found(name: str, clouds: Clouds, now: Callable[[], datetime]) -> Resource:
    if _EXECUTION.fullmatch(name) or _JOB.fullmatch(name):
        return _named(name, clouds)
    if "/" in name:
        raise ConfigurationError(
            f"{name}: name an execution, a Vertex AI job or a launch by its id, or by its full name, "
            "projects/P/locations/R/jobs/J/executions/E or projects/P/locations/R/customJobs/N"
        )
    config = clouds.config
    if name.isdecimal():

        def job(region: str, left: float) -> Listing[Job]:
            full = f"projects/{clouds.project}/locations/{region}/customJobs/{name}"
            return _if_there(lambda: clouds.vertex.get(full, left))

        return _searched(name, job, [config.region], config.regions, now)

    def execution(region: str, left: float) -> Listing[Execution]:
        return _if_there(lambda: find_execution(clouds.cloud_run, name, region, left))

    return _searched(name, execution, [config.runner_region], config.regions, now)


def _named(name: str, clouds: Clouds) -> Resource:
    try:
        if _JOB.fullmatch(name):
            return clouds.vertex.get(name, SEARCH_SECONDS)
        return clouds.cloud_run.execution(name, SEARCH_SECONDS)
    except NotFound as error:
        raise Refusal(f"{name}: there is none: {error}") from error


def _if_there(look: Callable[[], T]) -> Listing[T]:
    try:
        return Listing((look(),))
    except NotFound:
        return Listing(())


def _searched(
    name: str,
    look: Callable[[str, float], Listing[T]],
    first: Sequence[str],
    regions: Sequence[str],
    now: Callable[[], datetime],
) -> T:
    """Where it most likely is, then everywhere else at once."""
    reads: list[RegionRead[T]] = []
    for some in (first, [region for region in regions if region not in first]):
        reads += read_regions(look, some, SEARCH_SECONDS, now)
        for read in reads:
            if read.rows:
                return read.rows[0]
    searched = ", ".join(read.region for read in reads if read.state == "ok")
    unread = ", ".join(f"{read.region} ({read.said})" for read in reads if read.state != "ok")
    sentence = f"{name}: no such execution, Vertex AI job or launch in {searched or 'any region'}"
    raise Refusal(f"{sentence}; not searched: {unread}" if unread else sentence)
