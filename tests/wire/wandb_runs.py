"""Runs of the fake W&B."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tests.wire.wandb_queues import connection, stamp


@dataclass
class FakeRun:
    entity: str
    project: str
    name: str
    display: str
    state: str
    config: Mapping[str, Any]
    created: datetime
    heartbeat: datetime | None

    @property
    def id(self) -> str:
        """Of the server; people never see it."""
        named = f"Run:v1:{self.name}:{self.project}:{self.entity}"
        return base64.b64encode(named.encode()).decode()

    def seen(self) -> dict[str, Any]:
        wrapped = {key: {"value": value, "desc": None} for key, value in self.config.items()}
        return {
            "id": self.id,
            "name": self.name,
            "displayName": self.display,
            "state": self.state,
            "config": json.dumps(wrapped | {"_wandb": {"value": {"t": {}}}}),
            "createdAt": stamp(self.created),
            "heartbeatAt": None if self.heartbeat is None else stamp(self.heartbeat),
        }


class FakeWandbRuns:
    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.all: list[FakeRun] = []
        self._clock = clock

    def add(
        self,
        entity: str,
        project: str,
        name: str,
        state: str = "running",
        age_seconds: float = 0.0,
        seconds: float | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> FakeRun:
        """``seconds``: from its creation to its last heartbeat, None for now."""
        created = self._clock() - timedelta(seconds=age_seconds)
        last = self._clock() if seconds is None else created + timedelta(seconds=seconds)
        run = FakeRun(entity, project, name, f"{name}-1", state, config or {}, created, last)
        self.all.append(run)
        return run

    def knows(self, entity: str, project: str) -> bool:
        return any((run.entity, run.project) == (entity, project) for run in self.all)

    def project(self, entity: str, project: str) -> dict[str, Any]:
        """What GraphQL may ask of a project's runs."""
        mine = [run for run in self.all if (run.entity, run.project) == (entity, project)]

        def found(
            _: Any,
            filters: str = "{}",
            order: str = "+created_at",
            after: str | None = None,
            first: int | None = None,
        ) -> dict[str, Any]:
            wanted = _states(json.loads(filters))
            rows = [run for run in mine if wanted is None or run.state in wanted]
            assert order.lstrip("+-") == "created_at"
            rows.sort(key=lambda run: run.created, reverse=order.startswith("-"))
            return connection([run.seen() for run in rows], after, first)

        return {"runs": found}


def _states(filters: Mapping[str, Any]) -> Sequence[str] | None:
    """Of the one filter that is known here; None for no filter."""
    assert set(filters) <= {"state"}, f"unknown filter: {filters}"
    if not filters:
        return None
    state = filters["state"]
    return [state] if isinstance(state, str) else list(state["$in"])
