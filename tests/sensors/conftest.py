from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
import pytest

from resources.database import PROJECT_ROOT
from tests.postgres import TestServer, database_text
from tests.sensors.rig import Rig
from tests.wire.clock import HandClock
from tests.wire.conftest import google, nobody
from tests.wire.server import FakeGoogle
from tests.wire.wandb_server import FakeWandb

__all__ = ["google", "nobody"]


@pytest.fixture
def clock() -> HandClock:
    """At the database's time, since the store writes that."""
    clock = HandClock()
    clock.now = datetime.now(UTC).replace(microsecond=0)
    return clock


@pytest.fixture
def wandb(clock: HandClock) -> Iterator[FakeWandb]:
    with FakeWandb(clock) as made:
        made.queues.add("team", "vertex")
        yield made


@pytest.fixture
def instance(
    postgres_server: TestServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dg.DagsterInstance]:
    """Dagster's records and the store in one fresh database, as they are in a project."""
    url = postgres_server.ready()
    monkeypatch.setenv("FORGE_DATABASE_URL", database_text(url))
    monkeypatch.setenv("DAGSTER_HOME", str(PROJECT_ROOT))
    with dg.DagsterInstance.get() as made:
        yield made
    postgres_server.drop(url)


@pytest.fixture
def rig(
    google: FakeGoogle, wandb: FakeWandb, clock: HandClock, instance: dg.DagsterInstance
) -> Rig:
    return Rig(google, wandb, clock, instance)
