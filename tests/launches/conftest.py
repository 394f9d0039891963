from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import sqlalchemy as sa

from tests.launches.rig import DIRECT, QUEUE, Rig
from tests.wire.clock import HandClock
from tests.wire.conftest import nobody
from tests.wire.server import FakeGoogle
from tests.wire.wandb_server import FakeWandb

__all__ = ["nobody"]


@pytest.fixture
def clock() -> HandClock:
    """At the database's time, since the store writes that."""
    from datetime import UTC, datetime

    clock = HandClock()
    clock.now = datetime.now(UTC)
    return clock


@pytest.fixture
def google(clock: HandClock) -> Iterator[FakeGoogle]:
    with FakeGoogle(clock) as made:
        yield made


@pytest.fixture
def wandb(clock: HandClock) -> Iterator[FakeWandb]:
    with FakeWandb(clock) as made:
        made.queues.add("team", "vertex")
        yield made


MakeRig = Callable[[Mapping[str, Any]], Rig]


@pytest.fixture
def make_rig(
    google: FakeGoogle, wandb: FakeWandb, clock: HandClock, postgres_engine: sa.Engine
) -> MakeRig:
    return lambda config: Rig(google, wandb, clock, postgres_engine, config)


@pytest.fixture
def direct(make_rig: MakeRig) -> Rig:
    return make_rig(DIRECT)


@pytest.fixture
def queued(make_rig: MakeRig) -> Rig:
    return make_rig(QUEUE)
