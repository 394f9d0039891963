"""W&B's answers made plain. What they leave out is left out; what they must hold is raised for."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from resources.cloud.errors import Unavailable
from resources.cloud.wandb_types import UNKNOWN, Agent, QueueItem, Run
from resources.cloud.wire_values import NEVER

# Of W&B's own, in every run's config.
_INTERNAL = frozenset({"_wandb", "wandb_version"})


def item_of(node: Mapping[str, Any]) -> QueueItem:
    return QueueItem(
        id=identifier(node),
        state=str(node.get("state") or UNKNOWN).upper(),
        run_id=text(node, "associatedRunId") or None,
        spec=json_mapping(node.get("runSpec")),
    )


def agent_of(node: Mapping[str, Any], queues: Mapping[str, str]) -> Agent:
    """``queues``: the names by id."""
    listened = node.get("runQueues")
    ids = [str(queue) for queue in listened] if isinstance(listened, list) else []
    return Agent(
        id=identifier(node),
        name=text(node, "name") or text(node, "hostname"),
        status=str(node.get("agentStatus") or UNKNOWN).upper(),
        queues=tuple(queues.get(queue, queue) for queue in ids),
        heartbeat=moment(node.get("heartbeatAt")),
    )


def run_of(node: Mapping[str, Any], project_url: str) -> Run:
    name = text(node, "name") or identifier(node)
    return Run(
        id=name,
        name=text(node, "displayName") or name,
        state=(text(node, "state") or UNKNOWN).lower(),
        created=moment(node.get("createdAt")) or NEVER,
        heartbeat=moment(node.get("heartbeatAt")),
        url=f"{project_url}/runs/{name}",
        config=_config(node.get("config")),
    )


def nodes(connection: Any) -> list[Mapping[str, Any]]:
    """Of a connection's edges, or of a plain list."""
    return list(_nodes(connection))


UNTOLD = "?"
"""A next page's token where there may be one and nothing says where."""


def next_page(connection: Mapping[str, Any], asked: int, token: str) -> str:
    """The token of the next page, "" after the last."""
    info = connection.get("pageInfo")
    if not isinstance(info, Mapping) or "hasNextPage" not in info:
        # More rows than were asked for come of a server that knows no pages.
        return UNTOLD if len(nodes(connection)) == asked else ""
    if not info["hasNextPage"]:
        return ""
    end = text(info, "endCursor")
    return end if end and end != token else UNTOLD


def check_told(token: str) -> None:
    """Unavailable when the page cannot be asked for."""
    if token == UNTOLD:
        raise Unavailable("W&B does not say whether there are more rows, or where")


def identifier(node: Mapping[str, Any]) -> str:
    found = text(node, "id")
    if not found:
        raise Unavailable("W&B told of something without its id")
    return found


def text(node: Mapping[str, Any], name: str) -> str:
    """ "" for what is not there."""
    value = node.get(name)
    return "" if value is None else str(value)


def json_mapping(value: Any) -> Mapping[str, Any]:
    """Of a JSON value or of its text; empty for anything that is no object."""
    if isinstance(value, str):
        try:
            value = json.loads(value, strict=False)
        except (ValueError, RecursionError):
            return {}
    return value if isinstance(value, Mapping) else {}


def moment(value: Any) -> datetime | None:
    """UTC; None for a time that is not there. W&B leaves the zone out."""
    try:
        read = datetime.fromisoformat(value)
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def _nodes(connection: Any) -> Iterator[Mapping[str, Any]]:
    edges = connection.get("edges") if isinstance(connection, Mapping) else connection
    for edge in edges if isinstance(edges, list) else []:
        node = edge.get("node", edge) if isinstance(edge, Mapping) else None
        if isinstance(node, Mapping):
            yield node


def _config(value: Any) -> dict[str, Any]:
    """Each entry is wrapped: ``{"value": 3, "desc": null}``."""
    return {
        name: entry["value"] if isinstance(entry, Mapping) and "value" in entry else entry
        for name, entry in json_mapping(value).items()
        if name not in _INTERNAL
    }
