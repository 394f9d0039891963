"""Launch queues of the fake W&B: items that live as scripted, agents as they were added."""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

LAUNCH_PROJECT = "model-registry"


@dataclass(frozen=True)
class ItemLife:
    """``states``: seconds after the push and the state from then on.

    A CLAIMED item has its run: the ``run_id`` of its spec, or one of its own.
    """

    states: Sequence[tuple[float, str]] = ((0, "PENDING"), (2, "LEASED"), (4, "CLAIMED"))


NOBODY = ItemLife(((0, "PENDING"),))
"""No agent ever comes."""


@dataclass
class FakeItem:
    id: str
    spec: dict[str, Any]
    born: datetime
    life: ItemLife

    def state(self, now: datetime) -> str:
        passed = [
            state
            for after, state in self.life.states
            if self.born + timedelta(seconds=after) <= now
        ]
        return passed[-1]

    def run_id(self, now: datetime) -> str | None:
        claimed = self.state(now) == "CLAIMED"
        return str(self.spec.get("run_id") or f"run{self.id}") if claimed else None

    def seen(self, now: datetime) -> dict[str, Any]:
        state, run_id = self.state(now), self.run_id(now)
        return {"id": self.id, "state": state, "associatedRunId": run_id, "runSpec": self.spec}


@dataclass
class FakeQueue:
    id: str
    entity: str
    name: str
    resource: str
    items: list[FakeItem] = field(default_factory=list)


class FakeQueues:
    """``life``: of the items pushed from now on."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.life = ItemLife()
        self.pushed = threading.Semaphore(0)
        """Released by every push, also by one whose caller has gone."""
        self.queues: list[FakeQueue] = []
        self.agents: dict[str, list[dict[str, Any]]] = {}
        self._clock = clock
        self._made = 0

    def add(self, entity: str, name: str, resource: str = "gcp-vertex") -> FakeQueue:
        self.queues.append(FakeQueue(f"queue{len(self.queues)}", entity, name, resource))
        return self.queues[-1]

    def add_agent(
        self,
        entity: str,
        queues: Sequence[str],
        name: str = "agent",
        status: str = "POLLING",
        age_seconds: float = 0.0,
    ) -> str:
        """Its id. ``age_seconds``: of its last heartbeat."""
        heartbeat = self._clock() - timedelta(seconds=age_seconds)
        agents = self.agents.setdefault(entity, [])
        agents.append(
            {
                "id": f"agent{len(agents)}",
                "name": name,
                "agentStatus": status,
                "heartbeatAt": stamp(heartbeat),
                "hostname": "localhost",
                "runQueues": [self.named(entity, queue).id for queue in queues],
            }
        )
        return f"agent{len(agents) - 1}"

    def push(
        self, queue: FakeQueue, spec: Mapping[str, Any], life: ItemLife | None = None
    ) -> FakeItem:
        self._made += 1
        item = FakeItem(f"item{self._made}", dict(spec), self._clock(), life or self.life)
        queue.items.append(item)
        self.pushed.release()
        return item

    def named(self, entity: str, name: str) -> FakeQueue:
        found = self.find(entity, name)
        assert found is not None, f"no queue {entity}/{name}"
        return found

    def find(self, entity: str, name: str) -> FakeQueue | None:
        same = [queue for queue in self.queues if (queue.entity, queue.name) == (entity, name)]
        return same[0] if same else None

    def knows(self, entity: str) -> bool:
        return entity in self.agents or any(queue.entity == entity for queue in self.queues)

    def project(self, entity: str) -> dict[str, Any]:
        """What GraphQL may ask of the entity's launch project."""
        return {
            "runQueue": lambda _, name: self._seen(self.find(entity, name)),
            "runQueues": [self._seen(queue) for queue in self.queues if queue.entity == entity],
            "launchAgents": self.agents.get(entity, []),
        }

    def resource(self, queue_id: str) -> dict[str, Any] | None:
        for queue in self.queues:
            if f"config-{queue.id}" == queue_id:
                return {"id": queue_id, "resource": queue.resource, "config": {}}
        return None

    def push_by_name(self, input: Mapping[str, Any]) -> dict[str, Any] | None:
        assert input["projectName"] == LAUNCH_PROJECT
        return self._pushed(self.find(input["entityName"], input["queueName"]), input)

    def push_by_id(self, input: Mapping[str, Any]) -> dict[str, Any] | None:
        """The mutation that W&B's own client sends after the other one failed."""
        same = [queue for queue in self.queues if queue.id == input["queueID"]]
        return self._pushed(same[0] if same else None, input)

    def delete(self, input: Mapping[str, Any]) -> dict[str, Any]:
        for queue in self.queues:
            for item in queue.items:
                if (queue.id, item.id) == (input["queueID"], input["runQueueItemId"]):
                    queue.items.remove(item)
                    return {"success": True}
        return {"success": False}

    def _pushed(self, queue: FakeQueue | None, input: Mapping[str, Any]) -> dict[str, Any] | None:
        if queue is None:
            return None
        item = self.push(queue, json.loads(input["runSpec"]))
        return {"runQueueItemId": item.id, "runSpec": json.dumps(item.spec)}

    def _seen(self, queue: FakeQueue | None) -> dict[str, Any] | None:
        if queue is None:
            return None
        items = [item.seen(self._clock()) for item in queue.items]
        by_id = {item["id"]: item for item in items}
        return {
            "id": queue.id,
            "name": queue.name,
            "access": "PROJECT",
            "defaultResourceConfigID": f"config-{queue.id}",
            "runQueueItem": lambda _, id: by_id.get(id),
            "runQueueItems": lambda _, after=None, first=None: connection(items, after, first),
        }


def connection(rows: Sequence[Any], after: str | None, first: int | None) -> dict[str, Any]:
    """A page of at most 100 rows."""
    start = int(after or 0)
    end = min(start + min(first or 100, 100), len(rows))
    edges = [{"node": rows[at], "cursor": str(at + 1)} for at in range(start, end)]
    return {"edges": edges, "pageInfo": {"endCursor": str(end), "hasNextPage": end < len(rows)}}


def stamp(moment: datetime) -> str:
    """As W&B writes a time: UTC, and it does not say so."""
    return moment.replace(tzinfo=None).isoformat()
