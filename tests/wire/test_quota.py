"""How many accelerators a project may use: Vertex AI's own metrics, over Service Usage's protocol."""

import time
from collections.abc import Iterator

import httpx
import pytest

from resources.cloud.credentials import Access
from resources.cloud.errors import CloudError, Denied, NotFound, Throttled, TimedOut, Unavailable
from resources.cloud.quota import UNLIMITED, Quotas, metric
from tests.wire import http_faults, quotas
from tests.wire.quotas import FakeServiceUsage
from tests.wire.test_registry import Wire, credentials

L4 = "aiplatform.googleapis.com/custom_model_training_nvidia_l4_gpus"
NOBODY = Access("demo", None, {})


@pytest.fixture
def fake() -> Iterator[FakeServiceUsage]:
    with FakeServiceUsage() as made:
        yield made


@pytest.mark.parametrize(
    ("accelerator", "preemptible", "name"),
    [
        ("NVIDIA_L4", False, "custom_model_training_nvidia_l4_gpus"),
        ("NVIDIA_TESLA_T4", True, "custom_model_training_preemptible_nvidia_t4_gpus"),
        ("NVIDIA_A100_80GB", False, "custom_model_training_nvidia_a100_80gb_gpus"),
        ("NVIDIA_H100_80GB", False, "custom_model_training_nvidia_h100_gpus"),
        ("NVIDIA_H200_141GB", True, "custom_model_training_preemptible_nvidia_h200_gpus"),
    ],
)
def test_an_accelerator_s_metric_is_vertex_ai_s(
    accelerator: str, preemptible: bool, name: str
) -> None:
    assert metric(accelerator, preemptible) == f"aiplatform.googleapis.com/{name}"


def test_every_accelerator_with_a_metric_is_one_of_the_api() -> None:
    from google.cloud.aiplatform_v1.types import AcceleratorType

    from resources.cloud import quota

    assert set(quota._METRICS) <= {each.name for each in AcceleratorType}
    assert metric("TPU_V3", False) is None


def test_a_region_has_its_own_limit_or_that_of_all_others(fake: FakeServiceUsage) -> None:
    fake.add("custom_model_training_nvidia_l4_gpus", {"us-central1": 8, "us-west1": 0}, elsewhere=1)
    found = Quotas(NOBODY, fake.address).limits(L4, 5)
    assert [found.of(region) for region in ("us-central1", "us-west1", "us-east4")] == [8, 0, 1]
    assert "authorization" not in fake.visits[0].headers


def test_of_several_limits_the_smallest_counts(fake: FakeServiceUsage) -> None:
    short = "custom_model_training_nvidia_l4_gpus"
    fake.add(short, {"us-central1": 8, "us-east4": 2}, elsewhere=-1)
    fake.add(short, {}, elsewhere=4, unit="")
    found = Quotas(NOBODY, fake.address).limits(L4, 5)
    assert [found.of(region) for region in ("us-central1", "us-east4", "us-west1")] == [4, 2, 4]


def test_no_limit_is_not_a_small_one(fake: FakeServiceUsage) -> None:
    fake.add("custom_model_training_nvidia_l4_gpus", {}, elsewhere=-1)
    assert Quotas(NOBODY, fake.address).limits(L4, 5).of("us-east4") == UNLIMITED


def test_nothing_told_is_not_zero(fake: FakeServiceUsage) -> None:
    fake.faults.add(http_faults.answer(b"{}"))
    assert Quotas(NOBODY, fake.address).limits(L4, 5).of("us-east4") is None


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (quotas.denied(), Denied),
        (http_faults.throttled(), Throttled),
        (http_faults.status(503), Unavailable),
        (quotas.garbage(), Unavailable),
    ],
)
def test_what_it_does_wrong_is_a_cloud_error(
    fake: FakeServiceUsage, fault: http_faults.HttpFault, kind: type[CloudError]
) -> None:
    fake.faults.add(fault)
    with pytest.raises(kind, match="Service Usage"):
        Quotas(NOBODY, fake.address).limits(L4, 5)


def test_a_refusal_keeps_the_api_s_reason(fake: FakeServiceUsage) -> None:
    fake.faults.add(quotas.denied())
    with pytest.raises(Denied, match=r"quotas\.get denied") as caught:
        Quotas(NOBODY, fake.address).limits(L4, 5)
    assert caught.value.reason == "AUTH_PERMISSION_DENIED"


def test_a_metric_that_is_none_is_not_found(fake: FakeServiceUsage) -> None:
    with pytest.raises(NotFound):
        Quotas(NOBODY, fake.address).limits(L4, 5)


def test_the_deadline_is_that_of_the_whole_question(fake: FakeServiceUsage) -> None:
    fake.faults.add(http_faults.drip("body"))
    began = time.monotonic()
    with pytest.raises(TimedOut):
        Quotas(NOBODY, fake.address).limits(L4, 0.3)
    assert time.monotonic() - began < 1


def test_google_gets_the_token_and_the_project_that_pays() -> None:
    wire = Wire()
    access = Access("demo", credentials(), {})
    Quotas(access, transport=httpx.MockTransport(wire)).limits(L4, 5)
    assert wire.sent[0].url.host == "serviceusage.googleapis.com"
    assert wire.sent[0].headers["authorization"] == "Bearer secret-token"
    assert wire.sent[0].headers["x-goog-user-project"] == "other"
    assert b"aiplatform.googleapis.com%2Fcustom_model" in wire.sent[0].url.raw_path
