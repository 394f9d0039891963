"""W&B: launch queues, their items and agents, runs."""

import json
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from resources.cloud import wandb_queries as queries
from resources.cloud.errors import NotFound, Refused, Unavailable
from resources.cloud.graphql import GraphqlServer
from resources.cloud.listing import Listing, read_pages
from resources.cloud.wandb_access import WandbAccess, wandb_access
from resources.cloud.wandb_answers import (
    agent_of,
    check_told,
    identifier,
    item_of,
    next_page,
    nodes,
    run_of,
    text,
)
from resources.cloud.wandb_queries import LAUNCH_PROJECT
from resources.cloud.wandb_types import Agent, Queue, QueueItem, Run

__all__ = ["Wandb", "WandbAccess", "wandb_access"]

# Of an operation. W&B publishes no limit of its GraphQL API for reads.
_PER_MINUTE = 60.0
_BURST = 30.0
_PAGE_SIZE = 100
# Each run comes with its whole config.
_RUNS_PAGE_SIZE = 50

_Answer = Mapping[str, Any]


class Wandb:
    """Every call takes ``seconds``, its deadline; each of its requests is sent once.

    It raises CloudError. NotFound is also what the key may not see: W&B answers both alike.
    """

    def __init__(self, access: WandbAccess, clock: Callable[[], float] = time.monotonic) -> None:
        self._app_url = access.app_url
        url = f"{access.base_url}/graphql"
        self._server = GraphqlServer("W&B", url, access.key, _PER_MINUTE, _BURST, clock)

    def queue(self, entity: str, name: str, seconds: float) -> Queue:
        end = time.monotonic() + seconds
        found = self._queue(queries.QUEUE, entity, name, {}, seconds)
        config = text(found, "defaultResourceConfigID")
        kind = self._resource(entity, config, end - time.monotonic()) if config else ""
        return Queue(identifier(found), name, kind)

    def items(self, entity: str, queue: str, seconds: float) -> Listing[QueueItem]:
        """All of them, in the server's order; each with its spec if the server tells it."""

        def fetch(token: str, left: float) -> tuple[list[QueueItem], str]:
            check_told(token)
            more = {"after": token or None, "first": _PAGE_SIZE}
            found = self._queue(queries.ITEMS, entity, queue, more, left).get("runQueueItems")
            if not isinstance(found, Mapping):
                raise Unavailable(f"W&B told no items of the queue {entity}/{queue}")
            rows = [item_of(node) for node in nodes(found)]
            return rows, next_page(found, _PAGE_SIZE, token)

        return read_pages(fetch, seconds)

    def item(self, entity: str, queue: str, item_id: str, seconds: float) -> QueueItem:
        """Without its spec."""
        found = self._queue(queries.ITEM, entity, queue, {"itemId": item_id}, seconds)
        node = found.get("runQueueItem")
        if not isinstance(node, Mapping):
            raise NotFound(f"the queue {entity}/{queue} has no item {item_id}")
        return item_of({"id": item_id, **node})

    def find_item(
        self, entity: str, queue: str, launch_label: str, seconds: float
    ) -> QueueItem | None:
        """The item with our own id; of two, the first.

        None only when the whole queue was read and each item told what it is: CloudError otherwise.
        An item whose run is named by our id is found even if its spec is not told.
        """
        listing = self.items(entity, queue, seconds)
        for item in listing.rows:
            if launch_label in (item.launch, item.run_id):
                return item
        silent = sum(1 for item in listing.whole() if not item.spec)
        if silent:
            raise Unavailable(
                f"W&B did not tell the run spec of {silent} items of {entity}/{queue}: one of them "
                f"may be that of launch {launch_label}"
            )
        return None

    def agents(self, entity: str, seconds: float) -> tuple[Agent, ...]:
        """Those registered, dead ones too. Refused when the server tells none."""
        variables = {"entity": entity, "projectName": LAUNCH_PROJECT}
        found = self._project(queries.AGENTS, variables, entity, LAUNCH_PROJECT, seconds)
        agents = found.get("launchAgents")
        if not isinstance(agents, list):
            raise Refused(f"W&B tells nothing of the agents of {entity}")
        queues = {identifier(node): text(node, "name") for node in nodes(found.get("runQueues"))}
        return tuple(agent_of(node, queues) for node in nodes(agents))

    def push(self, entity: str, queue: str, run_spec: Mapping[str, Any], seconds: float) -> str:
        """The new item's id.

        One mutation, not repeated: after Throttled, TimedOut or Unavailable the item may exist, and
        the caller looks for it first. W&B's own client pushes again by another way instead.
        """
        variables = {
            "entityName": entity,
            "projectName": LAUNCH_PROJECT,
            "queueName": queue,
            "runSpec": json.dumps(run_spec),
        }
        found = self._server.ask(queries.PUSH, variables, seconds).get("pushToRunQueueByName")
        if found is None:
            raise NotFound(f"W&B has no queue {entity}/{queue} to push to, or the key may not")
        item_id = text(found, "runQueueItemId") if isinstance(found, Mapping) else ""
        if not item_id:
            raise Unavailable(f"W&B gave no id for what was pushed to {entity}/{queue}")
        return item_id

    def remove(self, entity: str, queue: str, item_id: str, seconds: float) -> None:
        """Refused when W&B says that it did not."""
        end = time.monotonic() + seconds
        found = self._queue(queries.QUEUE_ID, entity, queue, {}, seconds, "runQueueName")
        variables = {"queueID": identifier(found), "runQueueItemId": item_id}
        told = self._server.ask(queries.REMOVE, variables, end - time.monotonic())
        _check_done(told, "deleteFromRunQueue", f"item {item_id} was not removed")

    def runs(
        self, entity: str, project: str, states: Collection[str], limit: int, seconds: float
    ) -> Listing[Run]:
        """The newest first, at most ``limit``. ``states``: as in Run; none of them means all."""
        url = f"{self._app_url}/{entity}/{project}"
        filters = {"state": {"$in": sorted(states)}} if states else {}
        size = max(1, min(limit, _RUNS_PAGE_SIZE))

        def fetch(token: str, left: float) -> tuple[list[Run], str]:
            check_told(token)
            variables = {
                "project": project,
                "entity": entity,
                "cursor": token or None,
                "perPage": size,
                "order": "-created_at",
                "filters": json.dumps(filters),
            }
            found = self._project(queries.RUNS, variables, entity, project, left).get("runs")
            if not isinstance(found, Mapping):
                raise Unavailable(f"W&B told no runs of {entity}/{project}")
            rows = [run_of(node, url) for node in nodes(found)]
            wanted = [run for run in rows if not states or run.state in states]
            return wanted, next_page(found, size, token)

        listing = read_pages(fetch, seconds, limit)
        rows = sorted(listing.rows, key=lambda run: run.created, reverse=True)
        return Listing(tuple(rows), listing.missing)

    def _resource(self, entity: str, config: str, seconds: float) -> str:
        variables = {"entityName": entity, "id": config}
        try:
            found: Any = self._server.ask(queries.RESOURCE, variables, seconds)
        except (NotFound, Refused):
            return ""
        for name in ("entity", "defaultResourceConfig"):
            found = found.get(name) if isinstance(found, Mapping) else None
        return text(found, "resource") if isinstance(found, Mapping) else ""

    def _queue(
        self,
        document: str,
        entity: str,
        name: str,
        more: Mapping[str, Any],
        seconds: float,
        variable: str = "runQueue",
    ) -> _Answer:
        variables = {"projectName": LAUNCH_PROJECT, "entityName": entity, variable: name, **more}
        found = self._project(document, variables, entity, LAUNCH_PROJECT, seconds).get("runQueue")
        if not isinstance(found, Mapping):
            raise NotFound(f"W&B has no queue {entity}/{name}, or the key may not see it")
        return found

    def _project(
        self, document: str, variables: Mapping[str, Any], entity: str, name: str, seconds: float
    ) -> _Answer:
        found = self._server.ask(document, variables, seconds).get("project")
        if not isinstance(found, Mapping):
            raise NotFound(f"W&B has no project {entity}/{name}, or the key may not see it")
        return found


def _check_done(told: _Answer, mutation: str, otherwise: str) -> None:
    found = told.get(mutation)
    if not isinstance(found, Mapping) or found.get("success") is False:
        raise Refused(f"W&B says that {otherwise}")
