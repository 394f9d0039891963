"""What of a launch's preflight Google's APIs tell: credentials, APIs, the runner's job, waiting jobs.

Each function judges what was answered: a value, or the error that came instead. Pure.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from forge_assets.cloud_config import RunnerSpec
from forge_assets.launches.catalogue import classify
from forge_assets.launches.criterion import Criterion
from resources.cloud.cloud_run import RunnerJob
from resources.cloud.errors import CloudError, Denied, NotFound
from resources.cloud.listing import Listing
from resources.cloud.vertex import Job

LOGIN = "gcloud auth application-default login"
_VERTEX = "aiplatform.googleapis.com"
_CLOUD_RUN = "run.googleapis.com"


def credentials(answers: Iterable[Any], project: str, emulated: bool) -> Criterion:
    """``answers``: of every Google API that was asked; ``emulated``: none of them needs any."""
    what, heard = "credentials", list(answers)
    refused = next((answer for answer in heard if _is_of_nobody(answer)), None)
    if refused is not None:
        return Criterion(what, "no", str(refused), LOGIN)
    if emulated:
        return Criterion(what, "not_applicable", "the endpoints are emulators, which need none")
    if any(_is_of_somebody(answer) for answer in heard):
        return Criterion(what, "ok", f"accepted, project {project}")
    return Criterion(what, "unknown", str(heard[0]) if heard else "no API was asked")


def job_api(answer: Listing[Job] | CloudError, project: str, region: str) -> Criterion:
    what = f"Vertex AI in {region}"
    if isinstance(answer, Listing):
        return Criterion(what, "ok", "answers")
    return _refused(what, answer, project, _VERTEX, "roles/aiplatform.user")


def runner_job(
    answer: RunnerJob | CloudError, runner: RunnerSpec, project: str, region: str
) -> Criterion:
    what = "runner job"
    if isinstance(answer, NotFound):
        if runner.image:
            said = f"will be created as {runner.job} in {region} from {runner.image}"
            return Criterion(what, "ok", said)
        said = f"Cloud Run has no job {runner.job} in {region}"
        fix = "set cloud.runner.image in forge.yaml to the image of deploy/runner"
        return Criterion(what, "no", said, fix)
    if isinstance(answer, CloudError):
        return _refused(what, answer, project, _CLOUD_RUN, "roles/run.developer")
    if answer.state == "FAILED" and not runner.image:
        said = f"{runner.job} cannot be run: {answer.message or 'Cloud Run gives no reason'}"
        fix = f"gcloud run jobs describe {runner.job} --region {region} --project {project}"
        return Criterion(what, "no", said, fix)
    return Criterion(what, "ok", f"{runner.job} is there, image {answer.image or 'not told'}")


def waiting_jobs(answer: Listing[Job] | CloudError, region: str, now: datetime) -> Criterion:
    """Those that wait for quota now."""
    what = "jobs ahead"
    if not isinstance(answer, Listing):
        return Criterion(what, "unknown", str(answer), needed=False)
    waiting = [job for job in answer.rows if job.state == "QUEUED"]
    partly = f", of the newest {len(answer.rows)} jobs" if answer.missing else ""
    if not waiting:
        return Criterion(what, "ok", f"none waits for quota in {region}{partly}")
    oldest = max(0, int((now - min(job.created for job in waiting)).total_seconds() // 60))
    said = f"{len(waiting)} wait for quota in {region}, the oldest for {oldest} min{partly}"
    return Criterion(
        what, "warning", said, "take another region, or wait: a new job comes after them"
    )


def _is_of_nobody(answer: Any) -> bool:
    """Not who may do what, but who asks: gRPC calls it UNAUTHENTICATED, a token lost has no code."""
    return isinstance(answer, Denied) and answer.code != "PERMISSION_DENIED"


def _is_of_somebody(answer: Any) -> bool:
    """Whether an API looked at the credentials and did not mind."""
    if not isinstance(answer, CloudError):
        return True
    return answer.code in ("PERMISSION_DENIED", "NOT_FOUND", "INVALID_ARGUMENT")


def _refused(what: str, error: CloudError, project: str, service: str, role: str) -> Criterion:
    cause = classify(str(error))
    if error.reason == "SERVICE_DISABLED" or (cause and cause.entry.error_class == "api_disabled"):
        fix = f"gcloud services enable {service} --project {project}, then wait some minutes"
        return Criterion(what, "no", str(error), fix)
    if _is_of_nobody(error):
        return Criterion(what, "no", str(error), LOGIN)
    if isinstance(error, Denied):
        fix = (
            f"gcloud projects add-iam-policy-binding {project} --member user:YOU --role {role}, "
            "where YOU are the one who launches"
        )
        return Criterion(what, "no", str(error), fix)
    if isinstance(error, NotFound):
        return Criterion(
            what, "no", str(error), "correct cloud.project or the region in forge.yaml"
        )
    return Criterion(what, "unknown", str(error))
