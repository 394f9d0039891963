"""W&B: our client, a real socket, real GraphQL over W&B's schema behind it."""

import json
from collections.abc import Iterator
from datetime import timedelta

import pytest

from resources.cloud import wandb_queries
from resources.cloud.errors import NotFound, Refused, Unavailable
from resources.cloud.graphql import operation_of
from resources.cloud.wandb import Wandb, wandb_access
from resources.cloud.wandb_types import Agent
from tests.wire import http_faults
from tests.wire.clock import HandClock
from tests.wire.wandb_queues import NOBODY
from tests.wire.wandb_server import FakeWandb

ENTITY, QUEUE, PROJECT = "acme", "vertex", "mnist"
LABEL = "0a" * 16
SPEC = {
    "entity": ENTITY,
    "project": PROJECT,
    "docker": {"docker_image": "image"},
    "resource": "gcp-vertex",
    "resource_args": {"vertex": {"spec": {"labels": {"forge_launch": LABEL}}}},
    "overrides": {"run_config": {"forge_launch": LABEL}},
}


@pytest.fixture
def fake(clock: HandClock) -> Iterator[FakeWandb]:
    with FakeWandb(clock) as made:
        made.queues.add(ENTITY, QUEUE)
        yield made


@pytest.fixture
def wandb(fake: FakeWandb) -> Wandb:
    return Wandb(wandb_access(fake.environment))


def test_every_document_has_the_name_it_is_sent_under() -> None:
    documents = {
        operation_of(value)
        for value in vars(wandb_queries).values()
        if isinstance(value, str) and "{" in value and value.startswith("\n")
    }
    assert documents == {
        "GetRunQueueMetadata",
        "GetDefaultResourceConfig",
        "GetRunQueueItems",
        "GetRunQueueItem",
        "ProjectRunQueues",
        "pushToRunQueueByName",
        "fetchRunQueuesFromProject",
        "DeleteFromRunQueue",
        "Runs",
    }


def test_a_queue_is_known_by_name(fake: FakeWandb, wandb: Wandb) -> None:
    queue = wandb.queue(ENTITY, QUEUE, 5)
    assert (queue.id, queue.name, queue.type) == ("queue0", QUEUE, "gcp-vertex")
    with pytest.raises(NotFound, match="no queue acme/other"):
        wandb.queue(ENTITY, "other", 5)
    with pytest.raises(NotFound, match="no project nobody/model-registry"):
        wandb.queue("nobody", QUEUE, 5)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b'{"data": {}}', ""),
        (b'{"data": {"entity": {"defaultResourceConfig": null}}}', ""),
        (b'{"errors": [{"message": "Cannot query field"}]}', ""),
        (b'{"data": {"entity": {"defaultResourceConfig": {"resource": "k8s"}}}}', "k8s"),
    ],
)
def test_a_queue_whose_type_is_not_told_has_none(
    fake: FakeWandb, wandb: Wandb, answer: bytes, kind: str
) -> None:
    fake.faults.add(http_faults.answer(answer), "GetDefaultResourceConfig")
    assert wandb.queue(ENTITY, QUEUE, 5).type == kind


def test_an_item_is_seen_through_its_life(fake: FakeWandb, wandb: Wandb, clock: HandClock) -> None:
    pushed = wandb.push(ENTITY, QUEUE, SPEC, 5)
    item = wandb.item(ENTITY, QUEUE, pushed, 5)
    assert (item.id, item.state, item.run_id) == (pushed, "PENDING", None)
    clock.forward(2)
    assert wandb.item(ENTITY, QUEUE, pushed, 5).state == "LEASED"
    clock.forward(2)
    taken = wandb.item(ENTITY, QUEUE, pushed, 5)
    assert (taken.state, taken.run_id) == ("CLAIMED", "runitem1")
    with pytest.raises(NotFound, match="no item item9"):
        wandb.item(ENTITY, QUEUE, "item9", 5)


def test_a_push_is_one_mutation_by_name(fake: FakeWandb, wandb: Wandb) -> None:
    wandb.push(ENTITY, QUEUE, SPEC, 5)
    (asked,) = fake.asked
    assert asked.operation == "pushToRunQueueByName"
    assert json.loads(asked.variables["runSpec"]) == SPEC
    with pytest.raises(NotFound, match="no queue acme/other"):
        wandb.push(ENTITY, "other", SPEC, 5)
    assert [asked.operation for asked in fake.asked] == ["pushToRunQueueByName"] * 2


def test_items_come_over_all_pages_with_their_spec(fake: FakeWandb, wandb: Wandb) -> None:
    queue = fake.queues.named(ENTITY, QUEUE)
    for number in range(200):
        fake.queues.push(queue, {"project": str(number)}, NOBODY)
    wandb.push(ENTITY, QUEUE, SPEC, 5)
    listing = wandb.items(ENTITY, QUEUE, 5)
    assert listing.missing is None
    assert [item.spec["project"] for item in listing.rows[:200]] == [str(n) for n in range(200)]
    assert (listing.rows[200].spec, listing.rows[200].launch) == (SPEC, LABEL)
    assert len(fake.named("GetRunQueueItems")) == 3


def test_an_item_is_found_by_our_own_id(fake: FakeWandb, wandb: Wandb) -> None:
    assert wandb.find_item(ENTITY, QUEUE, LABEL, 5) is None
    queue = fake.queues.named(ENTITY, QUEUE)
    for _ in range(200):
        fake.queues.push(queue, {"overrides": {"run_config": {"forge_launch": "ff"}}})
    assert wandb.find_item(ENTITY, QUEUE, LABEL, 5) is None
    pushed = wandb.push(ENTITY, QUEUE, SPEC, 5)
    found = wandb.find_item(ENTITY, QUEUE, LABEL, 5)
    assert found is not None
    assert found.id == pushed


def test_half_a_queue_does_not_show_that_an_item_is_absent(fake: FakeWandb, wandb: Wandb) -> None:
    queue = fake.queues.named(ENTITY, QUEUE)
    fake.queues.push(queue, SPEC)
    for _ in range(150):
        fake.queues.push(queue, {"project": "other"})
    fake.faults.add(http_faults.second_page(), "GetRunQueueItems")
    listing = wandb.items(ENTITY, QUEUE, 5)
    assert len(listing.rows) == 100
    assert isinstance(listing.missing, Unavailable)
    with pytest.raises(Unavailable):
        wandb.find_item(ENTITY, QUEUE, "1b" * 16, 5)
    # What was read suffices for the one that is there.
    assert wandb.find_item(ENTITY, QUEUE, LABEL, 5) is not None


def items_answer(*nodes: object, **more: object) -> http_faults.HttpFault:
    edges = [{"node": node} for node in nodes]
    queue = {"runQueueItems": {"edges": edges, **more}}
    return http_faults.answer(json.dumps({"data": {"project": {"runQueue": queue}}}).encode())


def test_a_server_that_tells_no_spec_leaves_open_whether_the_item_is_there(
    fake: FakeWandb, wandb: Wandb
) -> None:
    fake.faults.add(items_answer({"id": 7}, {"id": 8, "associatedRunId": LABEL}))
    items = wandb.items(ENTITY, QUEUE, 5).rows
    assert [(item.id, item.state, item.spec) for item in items] == [
        ("7", "UNKNOWN", {}),
        ("8", "UNKNOWN", {}),
    ]
    # The run was to have our id for its name: that is as good.
    found = wandb.find_item(ENTITY, QUEUE, LABEL, 5)
    assert found is not None
    assert found.id == "8"
    with pytest.raises(Unavailable, match="run spec of 2 items"):
        wandb.find_item(ENTITY, QUEUE, "1b" * 16, 5)


@pytest.mark.parametrize("spec", [SPEC, json.dumps(SPEC)])
def test_a_spec_is_read_as_json_and_as_its_text(
    fake: FakeWandb, wandb: Wandb, spec: object
) -> None:
    fake.faults.add(items_answer({"id": "a", "state": "PENDING", "runSpec": spec}))
    assert wandb.items(ENTITY, QUEUE, 5).rows[0].launch == LABEL


@pytest.mark.parametrize(
    ("count", "page_info", "is_whole"),
    [
        (99, None, True),
        (100, None, False),
        (150, None, True),
        (3, {"hasNextPage": True}, False),
        (3, {"hasNextPage": True, "endCursor": None}, False),
        (3, {"hasNextPage": False}, True),
    ],
)
def test_a_server_that_does_not_tell_of_more_pages(
    fake: FakeWandb, wandb: Wandb, count: int, page_info: object, is_whole: bool
) -> None:
    more = {} if page_info is None else {"pageInfo": page_info}
    nodes = [{"id": number, "state": "PENDING"} for number in range(count)]
    fake.faults.add(items_answer(*nodes, **more))
    listing = wandb.items(ENTITY, QUEUE, 5)
    assert (len(listing.rows), listing.missing is None) == (count, is_whole)
    assert len(fake.asked) == 1


def test_a_server_that_gives_the_same_page_for_ever_is_left(fake: FakeWandb, wandb: Wandb) -> None:
    again = {"hasNextPage": True, "endCursor": "x"}
    fake.faults.add(items_answer({"id": 1}, pageInfo=again))
    listing = wandb.items(ENTITY, QUEUE, 5)
    assert isinstance(listing.missing, Unavailable)
    assert len(fake.asked) == 2


def test_an_item_is_removed(fake: FakeWandb, wandb: Wandb) -> None:
    pushed = wandb.push(ENTITY, QUEUE, SPEC, 5)
    wandb.remove(ENTITY, QUEUE, pushed, 5)
    assert fake.queues.named(ENTITY, QUEUE).items == []
    with pytest.raises(Refused, match="item item1 was not removed"):
        wandb.remove(ENTITY, QUEUE, pushed, 5)
    with pytest.raises(NotFound, match="no queue"):
        wandb.remove(ENTITY, "other", pushed, 5)


def test_agents_tell_which_queues_they_poll(
    fake: FakeWandb, wandb: Wandb, clock: HandClock
) -> None:
    assert wandb.agents(ENTITY, 5) == ()
    fake.queues.add(ENTITY, "cpu")
    fake.queues.add_agent(ENTITY, [QUEUE, "cpu"], "one")
    fake.queues.add_agent(ENTITY, ["cpu"], "two", status="KILLED", age_seconds=90)
    fake.queues.agents[ENTITY][1]["runQueues"].append("queue77")
    one, two = wandb.agents(ENTITY, 5)
    assert (one.id, one.name, one.status, one.queues, one.heartbeat) == (
        "agent0",
        "one",
        "POLLING",
        (QUEUE, "cpu"),
        clock.now,
    )
    assert (two.status, two.queues) == ("KILLED", ("cpu", "queue77"))
    assert two.heartbeat == clock.now - timedelta(seconds=90)


@pytest.mark.parametrize(
    ("status", "minutes", "lives"),
    [
        ("POLLING", 5, True),
        ("RUNNING", 0, True),
        ("RUNNING", None, True),
        ("POLLING", 6, False),
        ("KILLED", 0, False),
        ("UNKNOWN", 0, False),
    ],
)
def test_an_agent_lives_while_its_heart_beats(
    clock: HandClock, status: str, minutes: int | None, lives: bool
) -> None:
    heard = None if minutes is None else clock.now - timedelta(minutes=minutes)
    assert Agent("a1", "box", status, ("vertex",), heard).lives(clock.now) is lives


def test_an_agent_polls_its_queues_by_name_or_id() -> None:
    agent = Agent("a1", "box", "POLLING", ("vertex", "queue7"), None)
    assert agent.polls("vertex")
    assert agent.polls("other", "queue7")
    assert not agent.polls("other", "queue8")
    assert not agent.polls("other")


def test_agents_that_are_not_told_are_not_none(fake: FakeWandb, wandb: Wandb) -> None:
    fake.faults.add(http_faults.answer(b'{"data": {"project": {"runQueues": []}}}'))
    with pytest.raises(Refused, match="tells nothing of the agents"):
        wandb.agents(ENTITY, 5)


def test_runs_are_listed_newest_first_by_state(
    fake: FakeWandb, wandb: Wandb, clock: HandClock
) -> None:
    for age in (30, 10, *range(100, 190)):
        fake.runs.add(ENTITY, PROJECT, f"r{age}", age_seconds=age)
    ended = fake.runs.add(
        ENTITY,
        PROJECT,
        "over",
        "finished",
        age_seconds=60,
        seconds=45,
        config={"forge_launch": LABEL, "lr": 0.1},
    )
    listing = wandb.runs(ENTITY, PROJECT, {"running"}, 70, 5)
    assert [run.id for run in listing.rows][:3] == ["r10", "r30", "r100"]
    assert (len(listing.rows), listing.missing) == (70, None)
    assert len(fake.named("Runs")) == 2
    assert (listing.rows[0].ended, listing.rows[0].seconds) == (None, 10)

    (run,) = wandb.runs(ENTITY, PROJECT, {"finished", "failed", "crashed"}, 10, 5).rows
    assert (run.id, run.name, run.state) == ("over", "over-1", "finished")
    assert (run.created, run.ended, run.seconds) == (ended.created, ended.heartbeat, 45)
    assert (run.config, run.launch) == (ended.config, LABEL)
    assert run.url.endswith("/acme/mnist/runs/over")

    assert len(wandb.runs(ENTITY, PROJECT, (), 200, 5).rows) == 93
    with pytest.raises(NotFound, match="no project acme/other"):
        wandb.runs(ENTITY, "other", (), 10, 5)


def test_a_run_is_told_in_its_barest_form(fake: FakeWandb, wandb: Wandb) -> None:
    page = {"edges": [{"node": {"name": "r1", "state": "Running"}}, {"node": None}, None]}
    fake.faults.add(http_faults.answer(json.dumps({"data": {"project": {"runs": page}}}).encode()))
    (run,) = wandb.runs(ENTITY, PROJECT, {"running"}, 10, 5).rows
    assert (run.id, run.name, run.state, run.seconds, run.config) == (
        "r1",
        "r1",
        "running",
        None,
        {},
    )
