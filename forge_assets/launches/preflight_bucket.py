"""What of a launch's preflight is about the staging bucket. Pure."""

from forge_assets.cloud_config import CloudConfig
from forge_assets.launches.criterion import Criterion
from forge_assets.launches.preflight_config import Path
from resources.cloud.buckets import WRITE, BucketPlace, bucket_name
from resources.cloud.errors import CloudError, NotFound

_WHAT = "staging bucket"
_READ = "storage.buckets.get"


def staging_bucket(
    answer: BucketPlace | CloudError | None,
    config: CloudConfig,
    path: Path,
    project: str,
    region: str,
) -> Criterion:
    """``answer``: None when Cloud Storage was not asked. ``region``: of the job.

    Only a bucket that is not there stops a launch: the job writes to it, not who launches.
    """
    asked = config.staging_bucket
    if not asked:
        return _none(path)
    if answer is None:
        said = f"{asked} does not apply here: no Cloud Storage beside the emulator"
        return Criterion(_WHAT, "not_applicable", said)
    bucket = f"gs://{bucket_name(asked)}"
    if isinstance(answer, NotFound):
        fix = f"gcloud storage buckets create {bucket} --location={region} --project={project}"
        return Criterion(_WHAT, "no", f"{bucket}: {answer}", fix)
    if isinstance(answer, CloudError):
        # Not every 403 is about this permission: a closed billing account is one too.
        fix = _grant(bucket, "user:YOU", "legacyBucketReader") if _READ in str(answer) else ""
        fix += ", where YOU are the one who launches" if fix else ""
        return Criterion(_WHAT, "unknown", f"{bucket}: {answer}", fix, needed=False)
    return _found(answer, bucket, config, region)


def _none(path: Path) -> Criterion:
    if path == "direct":
        return Criterion(_WHAT, "not_applicable", "a direct launch needs none")
    said = "W&B's Vertex runner requires a staging bucket, and forge.yaml names none"
    return Criterion(_WHAT, "no", said, "set `staging_bucket: gs://BUCKET` in cloud of forge.yaml")


def _found(place: BucketPlace, bucket: str, config: CloudConfig, region: str) -> Criterion:
    said, doubts, fixes = f"{bucket} in {place.location or 'a location not told'}", [], []
    if place.is_near(region) is False:
        doubts.append(
            f"the job runs in {region}, and reading across regions takes longer and is charged"
        )
        fixes.append(f"name a bucket in {region}, or a region near this one")
    if place.may_write is False:
        doubts.append(f"who launches may not write there ({WRITE}), and the job has to")
        account = config.service_account
        grant = _grant(bucket, f"serviceAccount:{account or 'ACCOUNT'}", "objectUser")
        whose = "" if account else ", where ACCOUNT is the one that the job runs as"
        fixes.append(f"should the job's account not be allowed to either: {grant}{whose}")
    if doubts:
        return Criterion(_WHAT, "warning", "; ".join([said, *doubts]), "; ".join(fixes))
    return Criterion(_WHAT, "ok", said)


def _grant(bucket: str, member: str, role: str) -> str:
    return (
        f"gcloud storage buckets add-iam-policy-binding {bucket} --member={member} "
        f"--role=roles/storage.{role}"
    )
