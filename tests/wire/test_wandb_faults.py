"""Each fault of W&B once: what we make of it, when we give up, and what we never say."""

import logging
import threading
import time
import traceback
from collections.abc import Iterator

import pytest

from resources.cloud.errors import (
    CloudError,
    Denied,
    NotFound,
    Refused,
    Throttled,
    TimedOut,
    Unavailable,
)
from resources.cloud.wandb import Wandb, WandbAccess, wandb_access
from resources.errors import ConfigurationError
from tests.wire import http_faults
from tests.wire.clock import HandClock
from tests.wire.http_faults import HttpFault
from tests.wire.test_wandb import ENTITY, LABEL, QUEUE, SPEC
from tests.wire.wandb_server import KEY, FakeWandb


@pytest.fixture
def fake(clock: HandClock) -> Iterator[FakeWandb]:
    with FakeWandb(clock) as made:
        made.queues.add(ENTITY, QUEUE)
        yield made


@pytest.fixture
def wandb(fake: FakeWandb) -> Wandb:
    return Wandb(wandb_access(fake.environment))


@pytest.mark.parametrize(
    ("fault", "kind", "said"),
    [
        (http_faults.status(401, '{"error": "invalid key"}'), Denied, "answered 401: invalid key"),
        (http_faults.status(403), Denied, "answered 403"),
        (http_faults.status(404, "404 page not found"), NotFound, "404 page not found"),
        (http_faults.status(400, '{"errors": [{"message": "bad"}]}'), Refused, "says: bad"),
        (http_faults.status(409, "conflict"), Refused, "answered 409: conflict"),
        (http_faults.status(302, Location="/login"), Unavailable, "answered 302"),
        (http_faults.status(408), Unavailable, "answered 408"),
        (http_faults.status(500, "<html>Oh</html>"), Unavailable, "answered 500$"),
        (http_faults.status(502), Unavailable, "answered 502"),
        (http_faults.status(503), Unavailable, "answered 503"),
        (http_faults.drop(), Unavailable, "asked for ProjectRunQueues, did not answer: "),
        (http_faults.answer(b"<html>"), Unavailable, "no JSON"),
        (http_faults.answer(b"[" * 100_000), Unavailable, "no JSON"),
        (http_faults.answer(b"[]"), Unavailable, "without data"),
        (http_faults.answer(b'{"data": null}'), Unavailable, "without data"),
        (http_faults.answer(b" " * 10_000_001), Unavailable, "larger than 10 MB"),
        (http_faults.refused("permission denied", "PERMISSION_ERROR"), Denied, "permission denied"),
        (http_faults.refused("run queue not found"), NotFound, "run queue not found"),
        (http_faults.refused("rate limit exceeded"), Throttled, "rate limit"),
        (http_faults.refused("context deadline exceeded"), Unavailable, "deadline"),
        (http_faults.refused("Internal server error"), Unavailable, "Internal"),
        (http_faults.refused('Cannot query field "a" on type "AConnection".'), Refused, "Cannot"),
        (http_faults.refused("the spec has no image"), Refused, "has no image"),
        (http_faults.refused("half of it", data={"project": {"id": 1}}), Unavailable, "half of it"),
    ],
)
def test_an_error_is_named_and_sent_once(
    fake: FakeWandb, wandb: Wandb, fault: HttpFault, kind: type[CloudError], said: str
) -> None:
    fake.faults.add(fault, "ProjectRunQueues")
    with pytest.raises(CloudError, match=said) as caught:
        wandb.agents(ENTITY, 5)
    assert type(caught.value) is kind
    assert len(fake.asked) == 1
    assert wandb.items(ENTITY, QUEUE, 5).rows == ()


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry_After": "12"}, 12.0),
        ({"RateLimit_Reset": "7"}, 7.0),
        ({"Retry_After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"Retry_After": "inf"}, None),
        ({"Retry_After": "soon"}, None),
        ({}, None),
    ],
)
def test_a_429_tells_how_long_to_wait(
    fake: FakeWandb, wandb: Wandb, headers: dict[str, str], seconds: float | None
) -> None:
    fake.faults.add(http_faults.status(429, "slow down", **headers), "ProjectRunQueues")
    with pytest.raises(Throttled, match="answered 429: slow down") as caught:
        wandb.agents(ENTITY, 5)
    assert caught.value.retry_after == seconds


def test_an_operation_that_was_throttled_is_not_sent_before_its_time(fake: FakeWandb) -> None:
    at = 1000.0
    wandb = Wandb(wandb_access(fake.environment), lambda: at)
    fake.faults.add(http_faults.throttled("30"), "ProjectRunQueues", times=1)
    with pytest.raises(Throttled):
        wandb.agents(ENTITY, 5)
    at += 29
    with pytest.raises(Throttled, match=r"not asked for ProjectRunQueues again for 1\.0 s"):
        wandb.agents(ENTITY, 5)
    assert len(fake.asked) == 1
    # Only that one.
    assert wandb.items(ENTITY, QUEUE, 5).rows == ()
    at += 1
    assert wandb.agents(ENTITY, 5) == ()


def test_an_operation_has_its_own_limit(fake: FakeWandb) -> None:
    wandb = Wandb(wandb_access(fake.environment), lambda: 1000.0)
    for _ in range(30):
        wandb.agents(ENTITY, 5)
    with pytest.raises(Throttled, match="our own limit"):
        wandb.agents(ENTITY, 5)
    assert len(fake.asked) == 30
    wandb.push(ENTITY, QUEUE, SPEC, 5)


@pytest.mark.parametrize(
    "fault", [http_faults.hang(), http_faults.drip("head"), http_faults.drip("body")]
)
def test_the_deadline_is_of_the_whole_answer(
    fake: FakeWandb, wandb: Wandb, fault: HttpFault
) -> None:
    fake.faults.add(fault, "ProjectRunQueues", times=1)
    began = time.monotonic()
    with pytest.raises(
        TimedOut, match=r"asked for ProjectRunQueues, gave no whole answer within 0\.3 s"
    ):
        wandb.agents(ENTITY, 0.3)
    assert 0.25 < time.monotonic() - began < 2
    assert wandb.agents(ENTITY, 5) == ()


def test_the_deadline_is_of_all_requests_of_a_call(fake: FakeWandb, wandb: Wandb) -> None:
    fake.faults.add(http_faults.latency(0.3), "GetRunQueueMetadata")
    fake.faults.add(http_faults.hang(), "GetDefaultResourceConfig")
    began = time.monotonic()
    with pytest.raises(TimedOut):
        wandb.queue(ENTITY, QUEUE, 0.6)
    assert time.monotonic() - began < 2
    with pytest.raises(TimedOut, match="no time left"):
        wandb.agents(ENTITY, 0)


def test_latency_within_the_deadline_is_waited_for(fake: FakeWandb, wandb: Wandb) -> None:
    fake.faults.add(http_faults.latency(0.1))
    assert wandb.agents(ENTITY, 5) == ()


def test_a_server_that_is_not_there(fake: FakeWandb, wandb: Wandb) -> None:
    fake.close()
    with pytest.raises(Unavailable, match="asked for ProjectRunQueues, did not answer"):
        wandb.agents(ENTITY, 5)


def test_an_address_that_is_not_the_api(fake: FakeWandb) -> None:
    base_url = fake.environment["WANDB_BASE_URL"] + "/elsewhere"
    with pytest.raises(NotFound, match="answered 404: 404 page not found"):
        Wandb(WandbAccess(base_url, KEY)).agents(ENTITY, 5)


@pytest.mark.parametrize(
    ("fault", "seconds", "kind", "made"),
    [
        (http_faults.lost_answer(), 5, Unavailable, 1),
        (http_faults.drop(applied=True), 5, Unavailable, 1),
        (http_faults.latency(1), 0.3, TimedOut, 1),
        (http_faults.drop(), 5, Unavailable, 0),
        (http_faults.status(503), 5, Unavailable, 0),
        (http_faults.throttled(), 5, Throttled, 0),
    ],
)
def test_a_push_without_an_answer_is_sent_once_and_can_be_looked_up(
    fake: FakeWandb,
    wandb: Wandb,
    fault: HttpFault,
    seconds: float,
    kind: type[CloudError],
    made: int,
) -> None:
    fake.faults.add(fault, "pushToRunQueueByName", times=1)
    with pytest.raises(kind):
        wandb.push(ENTITY, QUEUE, SPEC, seconds)
    assert fake.queues.pushed.acquire(timeout=5 * made) == bool(made)
    assert len(fake.queues.named(ENTITY, QUEUE).items) == made
    assert (wandb.find_item(ENTITY, QUEUE, LABEL, 5) is not None) == bool(made)
    assert len(fake.named("pushToRunQueueByName")) == 1
    assert not fake.named("pushToRunQueue")


def test_a_look_up_that_fails_is_told_from_one_that_finds_nothing(
    fake: FakeWandb, wandb: Wandb
) -> None:
    fake.faults.add(http_faults.status(503), "GetRunQueueItems")
    with pytest.raises(Unavailable):
        wandb.find_item(ENTITY, QUEUE, LABEL, 5)


def test_many_threads_share_one_client(fake: FakeWandb, wandb: Wandb) -> None:
    found: list[object] = []
    threads = [
        threading.Thread(target=lambda: found.append(wandb.agents(ENTITY, 10))) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [()] * 20


def test_the_key_is_never_told(
    fake: FakeWandb, wandb: Wandb, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    access = wandb_access(fake.environment)
    said = [repr(access), str(access), repr(wandb), repr([access])]
    for fault in (
        http_faults.status(401, f"unknown key {KEY}"),
        http_faults.refused(f"the key {KEY} has no permission"),
        http_faults.drop(),
        http_faults.hang(),
    ):
        fake.faults.clear()
        fake.faults.add(fault)
        with pytest.raises(CloudError) as caught:
            wandb.agents(ENTITY, 0.5)
        said += traceback.format_exception(caught.value)
    assert any("***" in line for line in said)
    assert KEY not in "".join([*said, caplog.text])


def test_access_is_read_from_the_environment() -> None:
    access = wandb_access({"WANDB_API_KEY": f" {KEY}\n"})
    assert (access.base_url, access.key) == ("https://api.wandb.ai", KEY)
    assert access.app_url == "https://wandb.ai"
    own = {"WANDB_API_KEY": f"local-{KEY}", "WANDB_BASE_URL": "https://api.wandb.acme.com/"}
    assert wandb_access(own).base_url == "https://api.wandb.acme.com"
    assert wandb_access(own).app_url == "https://app.wandb.acme.com"
    assert wandb_access({"WANDB_API_KEY": "aa.bb.cc"}).key == "aa.bb.cc"


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "no W&B key: set WANDB_API_KEY"),
        ({"WANDB_API_KEY": "  "}, "no W&B key: set WANDB_API_KEY"),
        ({"WANDB_API_KEY": "5ecret"}, "it has 6 characters"),
        ({"WANDB_API_KEY": f"5ecret {KEY}"}, "is no W&B key"),
        ({"WANDB_API_KEY": f"5ecret\u00e9{KEY}"}, "is no W&B key"),
        ({"WANDB_BASE_URL": "api.wandb.ai"}, "not an http"),
        ({"WANDB_BASE_URL": "https://"}, "not an http"),
        ({"WANDB_BASE_URL": "https://host:99999"}, "not an http"),
        ({"WANDB_BASE_URL": "https://ho st"}, "not an http"),
        ({"WANDB_BASE_URL": "https://api:5ecret@host"}, "more than an address"),
        ({"WANDB_BASE_URL": "https://host?key=5ecret"}, "more than an address"),
    ],
)
def test_what_cannot_be_right_is_refused_with_its_fix(
    environment: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        wandb_access({"WANDB_API_KEY": KEY} | environment if environment else {})
    assert "5ecret" not in str(caught.value)
    assert "set" in str(caught.value) or "copy" in str(caught.value)
