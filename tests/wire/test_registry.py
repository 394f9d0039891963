"""Which digest a tag has, and for which machines: over the registry's real protocol."""

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from resources.cloud.credentials import Access, fake_address
from resources.cloud.errors import CloudError, Denied, NotFound, Throttled, TimedOut, Unavailable
from resources.cloud.registry import Registry, image_name
from resources.errors import ConfigurationError
from tests.wire import http_faults
from tests.wire.registry import FakeRegistry

TRAIN = "us-docker.pkg.dev/demo/r/train"
NOBODY = Access("demo", None, {})


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with FakeRegistry() as made:
        yield made


def registry(fake: FakeRegistry) -> Registry:
    return Registry(NOBODY, fake.address)


@pytest.mark.parametrize(
    ("text", "host", "repository", "reference"),
    [
        (f"{TRAIN}:v1", "us-docker.pkg.dev", "demo/r/train", "v1"),
        (TRAIN, "us-docker.pkg.dev", "demo/r/train", "latest"),
        (
            f"{TRAIN}:v1@sha256:{'a' * 64}",
            "us-docker.pkg.dev",
            "demo/r/train",
            f"sha256:{'a' * 64}",
        ),
        ("python:3.12", "docker.io", "library/python", "3.12"),
        ("team/train", "docker.io", "team/train", "latest"),
        ("docker.io/python", "docker.io", "library/python", "latest"),
        ("localhost:5000/a/b:c", "localhost:5000", "a/b", "c"),
    ],
)
def test_a_name_is_read_as_docker_reads_it(
    text: str, host: str, repository: str, reference: str
) -> None:
    name = image_name(text)
    assert (name.host, name.repository, name.reference) == (host, repository, reference)


def test_a_single_image_is_pinned_and_its_machine_told(fake: FakeRegistry) -> None:
    digest = fake.add("demo/r/train", "v1")
    found = registry(fake).image(f"{TRAIN}:v1", 5)
    assert found.pinned == f"{TRAIN}@{digest}"
    assert (found.platforms, found.fits) == (("linux/amd64",), True)
    assert registry(fake).image(found.pinned, 5) == found


def test_an_index_tells_all_its_machines(fake: FakeRegistry) -> None:
    digest = fake.add("demo/r/train", "v1", ["linux/arm64", "linux/amd64"])
    found = registry(fake).image(f"{TRAIN}:v1", 5)
    assert (found.digest, found.platforms) == (digest, ("linux/arm64", "linux/amd64"))
    assert found.fits


def test_an_image_for_arm_does_not_fit(fake: FakeRegistry) -> None:
    fake.add("demo/r/train", "v1", ["linux/arm64"])
    assert registry(fake).image(f"{TRAIN}:v1", 5).fits is False


def test_without_the_digest_s_header_it_is_that_of_the_manifest(fake: FakeRegistry) -> None:
    digest = fake.add("demo/r/train", "v1")
    fake.tells_digest = False
    assert registry(fake).image(f"{TRAIN}:v1", 5).digest == digest


def test_a_configuration_out_of_reach_leaves_the_machine_untold(fake: FakeRegistry) -> None:
    digest = fake.add("demo/r/train", "v1")
    registry(fake).image(f"{TRAIN}:v1", 5)
    configuration = fake.visits[-1].path.rsplit("/", 1)[-1]
    fake.faults.add(http_faults.status(403), configuration)
    found = registry(fake).image(f"{TRAIN}:v1", 5)
    assert (found.digest, found.fits) == (digest, None)


def test_a_tag_that_is_not_there_is_named(fake: FakeRegistry) -> None:
    with pytest.raises(NotFound, match=r"manifest for .*/demo/r/train, v2, not found: .* unknown"):
        registry(fake).image(f"{TRAIN}:v2", 5)


def test_anybody_s_token_is_got_where_the_registry_says() -> None:
    with FakeRegistry(token="any") as fake:
        digest = fake.add("library/python", "3.12")
        assert registry(fake).image("python:3.12", 5).digest == digest
        # The scope came in the challenge, whose values may hold commas.
        assert "service=fake%2Cregistry" in fake.visits[1].path


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (http_faults.status(403, '{"errors": [{"code": "DENIED", "message": "no"}]}'), Denied),
        (http_faults.throttled(), Throttled),
        (http_faults.status(503), Unavailable),
        (http_faults.drop(), Unavailable),
        (http_faults.answer(b"<html>"), Unavailable),
    ],
)
def test_what_a_registry_does_wrong_is_a_cloud_error(
    fake: FakeRegistry, fault: http_faults.HttpFault, kind: type[CloudError]
) -> None:
    fake.add("demo/r/train", "v1")
    fake.faults.add(fault, "v1")
    with pytest.raises(kind, match=r"us-docker\.pkg\.dev"):
        registry(fake).image(f"{TRAIN}:v1", 5)


@pytest.mark.parametrize(
    "fault", [http_faults.hang(), http_faults.drip("head"), http_faults.drip("body")]
)
def test_the_deadline_is_that_of_the_whole_question(
    fake: FakeRegistry, fault: http_faults.HttpFault
) -> None:
    fake.faults.add(fault)
    began = time.monotonic()
    with pytest.raises(TimedOut):
        registry(fake).image(f"{TRAIN}:v1", 0.3)
    assert time.monotonic() - began < 1


class Wire:
    """Nothing leaves: what would be sent to the true hosts."""

    def __init__(self) -> None:
        self.sent: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(request)
        return httpx.Response(200, json={"manifests": []})


def credentials() -> Any:
    from google.oauth2.credentials import Credentials

    return Credentials("secret-token", quota_project_id="other")  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("host", ["gcr.io", "eu.gcr.io", "us-central1-docker.pkg.dev"])
def test_google_s_registries_get_the_token(host: str) -> None:
    wire = Wire()
    access = Access("demo", credentials(), {})
    Registry(access, transport=httpx.MockTransport(wire)).image(f"{host}/demo/r/train:v1", 5)
    assert wire.sent[0].url == f"https://{host}/v2/demo/r/train/manifests/v1"
    assert wire.sent[0].headers["authorization"] == "Bearer secret-token"
    assert "x-goog-user-project" not in wire.sent[0].headers


@pytest.mark.parametrize(
    "image", ["python:3.12", "ghcr.io/a/b:c", "gcr.io.evil.dev/a/b", "x-docker.pkg.dev.evil/a/b"]
)
def test_no_other_host_gets_it(image: str) -> None:
    wire = Wire()
    access = Access("demo", credentials(), {})
    Registry(access, transport=httpx.MockTransport(wire)).image(image, 5)
    assert all("authorization" not in request.headers for request in wire.sent)
    assert wire.sent[0].url.host != "docker.io"


def test_the_variable_is_host_and_port() -> None:
    name = "ARTIFACT_REGISTRY_EMULATOR_HOST"
    assert fake_address(name, {}) is None
    assert fake_address(name, {name: "127.0.0.1:5000"}) == "127.0.0.1:5000"
    with pytest.raises(ConfigurationError, match="set it to host:port"):
        fake_address(name, {name: "http://127.0.0.1:5000"})
