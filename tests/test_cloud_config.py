import pytest

from forge_assets.cloud_config import CloudConfig, JobSpec
from forge_assets.config import ForgeConfig
from resources.cloud.regions import REGIONS
from resources.errors import ConfigurationError
from tests.test_config import SMALLEST, Load, load

__all__ = ["load"]

TRAIN = "jobs: {train: {image: us-docker.pkg.dev/p/r/train:v1}}"


def cloud_of(config: ForgeConfig) -> CloudConfig:
    assert config.cloud is not None
    return config.cloud


def test_the_smallest_section_launches_one_job_directly(load: Load) -> None:
    cloud = cloud_of(load(SMALLEST + f"cloud: {{project: demo, {TRAIN}}}\n"))
    assert (cloud.project, cloud.region, cloud.regions) == ("demo", "us-central1", REGIONS)
    assert (cloud.queue, cloud.runner, cloud.runner_region) == (None, None, "us-central1")
    name, job = cloud.job(None)
    assert (name, job.machine, job.scheduling, job.accelerator) == (
        "train",
        "n1-standard-4",
        "standard",
        None,
    )


def test_durations_and_the_runners_region(load: Load) -> None:
    cloud = cloud_of(
        load(
            SMALLEST
            + """cloud:
  region: europe-west4
  regions: [europe-west4, us-east1, europe-west4]
  wandb: {entity: team, project: vision, queue: vertex}
  runner: {region: europe-west1, idle_stop: 10m}
  jobs:
    train: {image: img, scheduling: flex-start, max_wait: 2h, timeout: 1d}
    eval: {image: img}
"""
        )
    )
    assert cloud.regions == ("europe-west4", "us-east1")
    assert (cloud.queue, cloud.runner_region) == ("vertex", "europe-west1")
    train: JobSpec = cloud.job("train")[1]
    assert (train.max_wait, train.timeout) == (7200, 86400)
    with pytest.raises(ConfigurationError, match="there are several: train, eval"):
        cloud.job(None)
    with pytest.raises(ConfigurationError, match="tune: no such job"):
        cloud.job("tune")


def test_a_section_without_jobs_says_where_they_go(load: Load) -> None:
    with pytest.raises(ConfigurationError, match=r"has no cloud\.jobs"):
        cloud_of(load(SMALLEST + "cloud: {project: demo}\n")).job(None)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("{project: Demo}", "cloud.project"),
        ("{region: us}", "a region such as us-central1"),
        ("{regions: []}", "is empty"),
        ("{staging_bucket: bucket}", "gs://BUCKET"),
        ("{jobs: {train: {}}}", "cloud.jobs.train.image"),
        ("{jobs: {train: {image: 'a b'}}}", "should be an image"),
        ("{jobs: {train: {image: a, scheduling: cheap}}}", "cloud.jobs.train.scheduling"),
        ("{jobs: {train: {image: a, max_wait: 1h}}}", "flex-start"),
        ("{jobs: {train: {image: a, replicas: 0}}}", "cloud.jobs.train.replicas"),
        ("{jobs: {train: {image: a, env: {A-B: c}}}}", "environment variable"),
        ("{wandb: {entity: a}}", "cloud.wandb.project"),
        ("{runner: {job: Bad_Name}}", "cloud.runner.job"),
        ("{projekt: p}", "projekt"),
    ],
)
def test_what_is_wrong_is_named(load: Load, section: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(SMALLEST + f"cloud: {section}\n")
    assert said in str(caught.value)
    assert "forge.yaml:" in str(caught.value)
    assert "\n" not in str(caught.value)
