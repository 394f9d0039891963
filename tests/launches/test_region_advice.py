"""Where to try next: what the quota, the table of regions and our own history say."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from forge_assets.launches.region_advice import Wanted, advice, is_there, ranking
from resources.cloud.quota import UNLIMITED
from resources.cloud.regions import REGIONS
from resources.launch_state import LaunchState
from resources.launch_store import Launch

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HERE = "us-central1"
H100 = Wanted("NVIDIA_H100_80GB", 8, HERE, "standard")
L4 = Wanted("NVIDIA_L4", 1, HERE, "standard")
OVER_QUOTA = "429 The following quota metrics exceed quota limits: aiplatform.googleapis.com/x"
NO_STOCK = "Resources are insufficient in region: us-east4. Please try a different region."


def launch(region: str, state: LaunchState, hours: float, **more: Any) -> Launch:
    at = NOW - timedelta(hours=hours)
    spec = {"accelerator": "NVIDIA_L4"}
    columns: dict[str, Any] = {"spec": spec, "created_at": at, "updated_at": at} | more
    return Launch(uuid4(), state, "direct", "train", "demo", region, **columns)


def test_the_region_itself_and_those_without_the_accelerator_are_left_out() -> None:
    found = ranking(H100, REGIONS, NOW)
    assert HERE not in found
    assert "us-west2" not in found
    assert "europe-west4" in found
    assert not is_there("NVIDIA_H200_141GB", "us-west2")
    assert is_there("SOMETHING_NEW", "us-west2")


def test_known_quota_comes_first_and_too_little_not_at_all() -> None:
    limits = {"us-east1": None, "us-east4": 2, "us-west1": 8, "us-west4": 0}
    assert ranking(L4, [HERE, *limits], NOW, limits) == ["us-west1", "us-east4", "us-east1"]


def test_where_a_job_ran_comes_before_more_quota() -> None:
    history = [launch("us-east4", "succeeded", 3)]
    limits = {"us-east4": 1, "us-west1": 8}
    assert ranking(L4, list(limits), NOW, limits, history) == ["us-east4", "us-west1"]


def test_a_region_that_refused_in_the_last_hours_is_last() -> None:
    limits = {"us-east4": 8, "us-west1": 8, "us-west4": 1}
    history = [
        launch("us-east4", "failed", 1, reason=NO_STOCK),
        launch("us-west1", "rejected", 2, reason=OVER_QUOTA),
    ]
    assert ranking(L4, list(limits), NOW, limits, history)[0] == "us-west4"
    assert ranking(L4, list(limits), NOW, limits, [launch("us-east4", "expired", 1)])[-1] == (
        "us-east4"
    )


def test_an_old_refusal_and_one_before_a_success_are_forgotten() -> None:
    limits = {"us-east4": 8, "us-west1": 4}
    old = [launch("us-east4", "failed", 7, reason=NO_STOCK)]
    assert ranking(L4, list(limits), NOW, limits, old)[0] == "us-east4"
    since = [launch("us-east4", "failed", 2, reason=NO_STOCK), launch("us-east4", "running", 1)]
    assert ranking(L4, list(limits), NOW, limits, since)[0] == "us-east4"


def test_what_failed_by_itself_or_with_another_accelerator_says_nothing() -> None:
    history = [
        launch("us-east4", "failed", 1, reason="ValueError: no data"),
        launch("us-east4", "failed", 1, reason=NO_STOCK, spec={"accelerator": "NVIDIA_B200"}),
    ]
    assert ranking(L4, ["us-east4", "us-west1"], NOW, None, history)[0] == "us-east4"


def test_the_sentences_say_why() -> None:
    history = [
        launch("us-west1", "succeeded", 3),
        launch("us-east4", "failed", 0.5, reason=NO_STOCK),
    ]
    limits = {"us-west1": 8, "us-east4": UNLIMITED}
    said = advice("quota", L4, list(limits), NOW, limits, {HERE: 4}, history)
    assert said == (
        "try `region: us-west1` (quota 8, a job ran there 3 h ago)"
        " or `region: us-east4` (no quota limit, refused 30 min ago)",
        "`scheduling: spot` has a quota of its own here: 4",
    )


def test_for_no_stock_flex_start_waits() -> None:
    said = advice("stockout", H100, [HERE], NOW)
    assert said == (
        "no other configured region is known to have NVIDIA_H100_80GB",
        "`scheduling: flex-start` waits for stock, up to `max_wait`",
    )
    t4 = Wanted("NVIDIA_TESLA_T4", 1, HERE, "spot")
    assert advice("stockout", t4, [HERE, "us-east1"], NOW) == ("try `region: us-east1`",)


def test_quota_that_is_not_known_is_said_so() -> None:
    assert advice("quota", L4, [HERE, "us-east1"], NOW)[-1] == (
        "`scheduling: spot` has a quota of its own, not known here"
    )
    assert len(advice("quota", L4, [HERE, "us-east1"], NOW, {}, {HERE: 0})) == 1
