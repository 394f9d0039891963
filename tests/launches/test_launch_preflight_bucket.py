"""The staging bucket's line of a launch's preflight."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from forge_assets.cloud_config import CloudConfig
from forge_assets.launches.clouds import Clouds
from forge_assets.launches.criterion import Criterion
from forge_assets.launches.preflight import launch_preflight
from forge_assets.launches.preflight_config import Path
from resources.cloud.credentials import access
from resources.errors import ConfigurationError
from tests.launches.rig import QUEUE, REGION
from tests.wire import http_faults, storage
from tests.wire.server import FakeGoogle
from tests.wire.storage import Emulator, FakeStorage
from tests.wire.wandb_server import FakeWandb


class Asker:
    def __init__(self, google: FakeGoogle, wandb: FakeWandb) -> None:
        self.environment = {**google.environment, **wandb.environment}
        self.config: dict[str, Any] = dict(QUEUE)

    def ask(
        self, of: Mapping[str, str], path: Path = "queue", seconds: float = 5.0
    ) -> tuple[Criterion, bool]:
        """The bucket's line, and GO or not."""
        environment = {**self.environment, **of}
        config = CloudConfig.model_validate(self.config)
        clouds = Clouds(config, access("demo", environment), environment)
        name, job = config.job("train")
        found = launch_preflight(clouds, name, job, path, REGION, seconds)
        line = next(each for each in found.criteria if each.name == "staging bucket")
        return line, found.go


@pytest.fixture
def asker(google: FakeGoogle, wandb: FakeWandb) -> Asker:
    return Asker(google, wandb)


@pytest.fixture
def there() -> Iterator[Emulator]:
    with storage.emulator() as made:
        yield made


@pytest.fixture
def fake() -> Iterator[FakeStorage]:
    with FakeStorage() as made:
        made.add("staging")
        yield made


PATHS = pytest.mark.parametrize("path", ["direct", "queue"])


@PATHS
def test_a_bucket_that_is_there(asker: Asker, there: Emulator, path: Path) -> None:
    there.add("staging")
    line, go = asker.ask(there.environment, path)
    assert (line.state, line.detail, go) == ("ok", f"gs://staging in {REGION}", True)


@PATHS
def test_one_that_is_not_is_made_by_one_command(asker: Asker, there: Emulator, path: Path) -> None:
    asker.config["staging_bucket"] = "gs://staging/runs"
    line, go = asker.ask(there.environment, path)
    assert (line.state, go) == ("no", False)
    assert line.fix == (
        f"gcloud storage buckets create gs://staging --location={REGION} --project=demo"
    )


@pytest.mark.parametrize("location", ["US", "NAM4"])
def test_a_larger_place_on_the_continent_is_right(
    asker: Asker, there: Emulator, location: str
) -> None:
    there.add("staging", location)
    assert asker.ask(there.environment)[0].state == "ok"


@pytest.mark.parametrize("location", ["US-EAST1", "EU"])
def test_another_region_is_a_warning(asker: Asker, there: Emulator, location: str) -> None:
    there.add("staging", location)
    line, go = asker.ask(there.environment)
    assert (line.word, go) == ("WARN", True)
    assert line.detail == (
        f"gs://staging in {location.lower()}; the job runs in {REGION}, and reading across regions "
        "takes longer and is charged"
    )


def test_who_may_not_write_is_warned_since_the_job_has_to(asker: Asker, fake: FakeStorage) -> None:
    fake.permissions = ()
    asker.config["service_account"] = "trainer@demo.iam.gserviceaccount.com"
    line, go = asker.ask(fake.environment)
    assert (line.word, go) == ("WARN", True)
    assert "storage.objects.create" in line.detail
    assert line.fix.endswith(
        "gcloud storage buckets add-iam-policy-binding gs://staging "
        "--member=serviceAccount:trainer@demo.iam.gserviceaccount.com "
        "--role=roles/storage.objectUser"
    )


def test_one_that_may_not_be_read_is_not_known(asker: Asker, fake: FakeStorage) -> None:
    fake.faults.add(storage.denied(), "staging")
    line, go = asker.ask(fake.environment)
    assert (line.state, line.word, go) == ("unknown", "WARN", True)
    assert "--role=roles/storage.legacyBucketReader" in line.fix


def test_another_403_has_no_fix_of_ours(asker: Asker, fake: FakeStorage) -> None:
    said = '{"error": {"message": "The billing account is disabled in state closed"}}'
    fake.faults.add(http_faults.status(403, said), "staging")
    line, _ = asker.ask(fake.environment)
    assert (line.state, line.fix) == ("unknown", "")
    assert "disabled in state closed" in line.detail


@pytest.mark.parametrize(
    "fault",
    [http_faults.status(503), http_faults.drop(), http_faults.hang()],
    ids=["503", "drop", "hang"],
)
def test_one_out_of_reach_stops_nothing(
    asker: Asker, fake: FakeStorage, fault: http_faults.HttpFault
) -> None:
    asker.ask(fake.environment)
    fake.faults.add(fault)
    began = time.monotonic()
    line, go = asker.ask(fake.environment, seconds=0.7)
    assert time.monotonic() - began < 2
    assert (line.state, line.word, go) == ("unknown", "WARN", True)


def test_beside_other_emulators_nobody_is_asked(
    asker: Asker, fake: FakeStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where a client would go, if one were made.
    monkeypatch.setenv(storage.VARIABLE, fake.url)
    line, go = asker.ask({})
    assert (line.state, go, fake.visits) == ("not_applicable", True, [])
    assert "no Cloud Storage beside the emulator" in line.detail


def test_none_is_needed_through_a_queue_alone(asker: Asker, fake: FakeStorage) -> None:
    del asker.config["staging_bucket"]
    line, go = asker.ask(fake.environment, "queue")
    assert (line.state, go) == ("no", False)
    assert line.fix == "set `staging_bucket: gs://BUCKET` in cloud of forge.yaml"
    assert asker.ask(fake.environment, "direct")[0].state == "not_applicable"
    assert fake.visits == []


def test_a_variable_that_is_no_url_is_told(asker: Asker) -> None:
    with pytest.raises(ConfigurationError, match="set it to http://host:port"):
        asker.ask({storage.VARIABLE: "127.0.0.1:9023"})
