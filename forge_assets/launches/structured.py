"""Reasons that Google's services give themselves, in fields of their own: no log is read for them."""

from dataclasses import dataclass
from datetime import datetime

from forge_assets.launches.catalogue import classify
from forge_assets.launches.log_causes import is_specific, is_summary, rank
from forge_assets.launches.reason import NOTHING, Reason, known_cause
from resources.cloud.cloud_build import Build
from resources.cloud.cloud_run import CloudRun, Execution
from resources.cloud.errors import CloudError
from resources.cloud.vertex import Job

# Words of the API that say the same as a text of the catalogue.
_WORDS = {
    "CONTAINER_MISSING": "I02",
    "CONTAINER_PERMISSION_DENIED": "R05",
    "CONTAINER_IMAGE_UNAUTHORIZED": "R05",
    "SECRETS_ACCESS_CHECK_FAILED": "R06",
}


def build_reason(build: Build) -> Reason:
    """From what Cloud Build says of itself; costs no call."""
    if build.is_active or build.status == "SUCCESS":
        return Reason(NOTHING, f"it is {build.status}")
    state = f"build status {build.status}"
    text = build.failure or " ".join(filter(None, [state, build.failure_type]))
    causes = [classify(each) for each in (build.failure, build.failure_type, state) if each]
    return Reason("build", text, min(causes, key=rank))


@dataclass(frozen=True)
class FailedTask:
    """The first task that failed, None when none tells. ``said``: why the tasks could not be read."""

    reason: Reason | None = None
    is_killed: bool = False
    said: str = ""


def failed_task(cloud_run: CloudRun, execution: Execution, seconds: float) -> FailedTask:
    try:
        ends = cloud_run.task_ends(execution.name, seconds)
    except CloudError as error:
        return FailedTask(said=f"tasks not read: {error}")
    for task in ends:
        if not (task.exit_code or task.signal):
            continue
        # In the words of the log, which may not have it.
        state = (
            f"Container terminated on signal {task.signal}."
            if task.signal
            else f"Container called exit({task.exit_code})."
        )
        causes = [classify(each) for each in (task.message, state) if each]
        cause = min(causes, key=rank)
        reason = Reason("task", task.message or state, cause)
        return FailedTask(reason, is_killed=bool(task.signal))
    return FailedTask()


def condition_reason(execution: Execution) -> Reason:
    if execution.state == "CANCELLED":
        cause = classify(execution.message)
        # The summary comes for every end but success.
        told = "" if cause and is_summary(cause) else execution.message
        return Reason("condition", told or "it was cancelled")
    if execution.state != "FAILED":
        return Reason(NOTHING, "")
    word = execution.reason
    cause = classify(execution.message) if execution.message else None
    if word in _WORDS and not is_specific(cause):
        cause = known_cause(_WORDS[word], execution.message or word)
    text = execution.message or word
    return Reason("condition", text, cause) if text else Reason(NOTHING, "")


def error_reason(job: Job) -> Reason:
    """A code alone tells no reason."""
    if not job.error:
        return Reason(NOTHING, f"error code {job.error_code}" if job.error_code else "")
    return Reason("job error", job.error, classify(job.error))


def state_reason(job: Job, now: datetime) -> Reason:
    state = f"state JOB_STATE_{job.state}"
    if job.state == "QUEUED":
        minutes = (now - job.created).total_seconds() / 60
        state += f" since {minutes:.0f} min"
    elif job.state not in ("EXPIRED", "CANCELLED", "PAUSED"):
        return Reason(NOTHING, "")
    text = f"{state}, no error given"
    return Reason("job state", text, classify(text))
