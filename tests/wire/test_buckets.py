"""Whether a bucket is there, where, and whether we may write to it: by Google's own client."""

import time
from collections.abc import Iterator

import pytest

from resources.cloud.buckets import BucketPlace, Buckets, bucket_name, emulator
from resources.cloud.credentials import Access
from resources.cloud.errors import CloudError, Denied, NotFound, Throttled, TimedOut, Unavailable
from resources.errors import ConfigurationError
from tests.wire import http_faults, storage
from tests.wire.storage import Emulator, FakeStorage

NOBODY = Access("demo", None, {})


@pytest.fixture
def there() -> Iterator[Emulator]:
    with storage.emulator() as made:
        yield made


@pytest.fixture
def fake() -> Iterator[FakeStorage]:
    with FakeStorage() as made:
        made.add("staging")
        yield made


def test_a_bucket_that_is_there(there: Emulator) -> None:
    there.add("staging", "EUROPE-WEST4")
    found = Buckets(NOBODY, there.url).bucket("staging", 5)
    assert found == BucketPlace("staging", "europe-west4", (), may_write=True)


def test_one_that_is_not(there: Emulator) -> None:
    with pytest.raises(NotFound, match="Cloud Storage answered 404"):
        Buckets(NOBODY, there.url).bucket("staging", 5)


def test_the_client_s_own_variable_leads_there_too(
    there: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    there.add("staging")
    monkeypatch.setenv(storage.VARIABLE, there.url)
    assert Buckets(NOBODY).bucket("staging", 5).location == "us-central1"


def test_an_emulator_gets_no_credentials(fake: FakeStorage) -> None:
    from google.oauth2.credentials import Credentials

    access = Access("demo", Credentials("secret-token"), {})  # type: ignore[no-untyped-call]
    Buckets(access, fake.url).bucket("staging", 5)
    assert len(fake.visits) == 2
    assert all("authorization" not in visit.headers for visit in fake.visits)


def test_google_gets_them(fake: FakeStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    from google.oauth2.credentials import Credentials

    # The client's own variable for the endpoint of the true service.
    monkeypatch.setenv("API_ENDPOINT_OVERRIDE", fake.url)
    access = Access("demo", Credentials("secret-token"), {})  # type: ignore[no-untyped-call]
    Buckets(access).bucket("staging", 5)
    assert fake.visits[0].headers["authorization"] == "Bearer secret-token"


def test_who_may_not_write_is_told(fake: FakeStorage) -> None:
    fake.permissions = ()
    assert Buckets(NOBODY, fake.url).bucket("staging", 5).may_write is False


def test_whether_we_may_write_can_be_untold(fake: FakeStorage) -> None:
    fake.faults.add(storage.denied("storage.buckets.getIamPolicy"), "testPermissions")
    found = Buckets(NOBODY, fake.url).bucket("staging", 5)
    assert (found.location, found.may_write) == ("us-central1", None)


def test_a_place_put_together_of_regions_names_them(fake: FakeStorage) -> None:
    regions = {"dataLocations": ["US-EAST1", "US-WEST1"]}
    fake.add("pair", "US", customPlacementConfig=regions)
    assert Buckets(NOBODY, fake.url).bucket("pair", 5).regions == ("us-east1", "us-west1")


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (storage.denied(), Denied),
        (http_faults.throttled(), Throttled),
        (http_faults.status(503), Unavailable),
        (http_faults.drop(), Unavailable),
        (http_faults.answer(b"<html>"), Unavailable),
        (http_faults.answer(b"[]"), Unavailable),
        (http_faults.answer(b""), Unavailable),
    ],
)
def test_what_it_does_wrong_is_a_cloud_error_and_asked_once(
    fake: FakeStorage, fault: http_faults.HttpFault, kind: type[CloudError]
) -> None:
    fake.faults.add(fault, "staging")
    with pytest.raises(kind, match="Cloud Storage"):
        Buckets(NOBODY, fake.url).bucket("staging", 5)
    assert len(fake.visits) == 1


def test_a_token_that_is_not_accepted_is_denied(fake: FakeStorage) -> None:
    fake.faults.add(http_faults.status(401), "staging")
    with pytest.raises(Denied):
        Buckets(NOBODY, fake.url).bucket("staging", 5)


def test_an_answer_about_writing_that_is_none_leaves_it_untold(fake: FakeStorage) -> None:
    fake.faults.add(http_faults.answer(b"[]"), "testPermissions")
    assert Buckets(NOBODY, fake.url).bucket("staging", 5).may_write is None


def test_nobody_listens() -> None:
    with FakeStorage() as gone:
        url = gone.url
    with pytest.raises(Unavailable, match="Cloud Storage did not answer"):
        Buckets(NOBODY, url).bucket("staging", 5)


@pytest.mark.parametrize("call", ["staging", "testPermissions"])
@pytest.mark.parametrize(
    "fault", [http_faults.hang(), http_faults.drip("head"), http_faults.drip("body")]
)
def test_the_deadline_is_that_of_the_whole_question(
    fake: FakeStorage, fault: http_faults.HttpFault, call: str
) -> None:
    fake.faults.add(fault, call)
    buckets = Buckets(NOBODY, fake.url)
    began = time.monotonic()
    with pytest.raises(TimedOut):
        buckets.bucket("staging", 0.3)
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    ("location", "regions", "region", "near"),
    [
        ("us-central1", (), "us-central1", True),
        ("us-central1", (), "us-central2", False),
        ("us", (), "us-central1", True),
        ("us", (), "europe-west4", False),
        ("nam4", (), "us-east1", True),
        ("eur4", (), "europe-west4", True),
        ("eu", (), "us-central1", False),
        ("asia1", (), "asia-northeast1", True),
        ("us", ("us-east1", "us-west1"), "us-central1", False),
        ("us", ("us-east1", "us-west1"), "us-west1", True),
        ("moon", (), "us-central1", None),
        ("", (), "us-central1", None),
    ],
)
def test_near(location: str, regions: tuple[str, ...], region: str, near: bool | None) -> None:
    assert BucketPlace("staging", location, regions).is_near(region) is near


def test_the_bucket_of_a_path() -> None:
    assert {bucket_name("gs://staging"), bucket_name("gs://staging/a/b")} == {"staging"}


def test_the_variable_is_a_url() -> None:
    assert emulator({}) is None
    assert emulator({storage.VARIABLE: "http://127.0.0.1:9023/"}) == "http://127.0.0.1:9023"
    with pytest.raises(ConfigurationError, match=r"set it to http://host:port"):
        emulator({storage.VARIABLE: "127.0.0.1:9023"})
