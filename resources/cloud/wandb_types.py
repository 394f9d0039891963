"""What W&B holds of a launch: the queue, its items, the agents that poll it, the runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

LAUNCH_KEY = "forge_launch"
"""In a run's config, and under ``overrides.run_config`` of an item's run spec: our own id."""

ALIVE_WITHIN = timedelta(minutes=5)
"""Of an agent's last heartbeat: it polls every few seconds."""

UNKNOWN = "UNKNOWN"
"""A state that the server did not tell."""


@dataclass(frozen=True, slots=True)
class Queue:
    """``type``: the resource its agents need (``gcp-vertex``), "" when the server tells none."""

    id: str
    name: str
    type: str


@dataclass(frozen=True, slots=True)
class QueueItem:
    """``state``: PENDING, LEASED, CLAIMED or FAILED. ``run_id``: None before an agent took it.

    ``spec`` is empty when the server did not tell it.
    """

    id: str
    state: str
    run_id: str | None
    spec: Mapping[str, Any]

    @property
    def launch(self) -> str | None:
        """Our own id."""
        config: Any = self.spec
        for name in ("overrides", "run_config"):
            config = config.get(name) if isinstance(config, Mapping) else None
        return _text(config.get(LAUNCH_KEY)) if isinstance(config, Mapping) else None


@dataclass(frozen=True, slots=True)
class Agent:
    """``status``: POLLING, RUNNING or KILLED. ``queues``: their names, an id where there is none.

    A status stays as it was when an agent dies: ``heartbeat`` tells.
    """

    id: str
    name: str
    status: str
    queues: tuple[str, ...]
    heartbeat: datetime | None

    def lives(self, now: datetime) -> bool:
        """Also one whose heartbeat the server does not tell."""
        heard = self.heartbeat is None or now - self.heartbeat <= ALIVE_WITHIN
        return heard and self.status in ("POLLING", "RUNNING")

    def polls(self, queue: str, queue_id: str = "") -> bool:
        """Whether it is registered with the queue of this name, or of this id."""
        return queue in self.queues or (queue_id != "" and queue_id in self.queues)


@dataclass(frozen=True, slots=True)
class Run:
    """``id``: as in its address; ``name``: for people. ``state``: running, finished, crashed, …

    ``seconds``: from its creation to its last heartbeat, None without one. ``ended``: that last
    heartbeat, None while it lives. Times are UTC.
    """

    id: str
    name: str
    state: str
    created: datetime
    heartbeat: datetime | None
    url: str
    config: Mapping[str, Any]

    @property
    def is_over(self) -> bool:
        return self.state in OVER

    @property
    def ended(self) -> datetime | None:
        return self.heartbeat if self.is_over else None

    @property
    def seconds(self) -> float | None:
        if self.heartbeat is None:
            return None
        return max(0.0, (self.heartbeat - self.created).total_seconds())

    @property
    def launch(self) -> str | None:
        """Our own id."""
        return _text(self.config.get(LAUNCH_KEY))


OVER = frozenset({"finished", "failed", "crashed", "killed"})
"""States of a run after which nothing more happens."""


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
