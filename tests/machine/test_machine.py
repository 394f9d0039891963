import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from resources.gpu.devices import GpuDevice
from resources.host_memory import Memory
from resources.machine import (
    Criterion,
    Limits,
    LimitWatch,
    MachineSample,
    Monitor,
    criteria,
    take_sample,
)
from resources.machine_reading import Connections
from resources.sample_store import SampleStore
from resources.store_types import ResourceSample

GB = 10**9
H100 = GpuDevice(0, "NVIDIA H100", 3.0, 20 * GB, 80 * GB)
FINE = MachineSample(
    at=datetime(2025, 1, 1, tzinfo=UTC),
    memory=Memory(16 * GB, 12 * GB),
    connections=Connections(total=7, active=2, idle=5, max=100),
)
BROKEN = replace(FINE, memory=Memory(16 * GB, 3 * GB))
WAIT_SECONDS = 30


def statuses(found: list[Criterion]) -> dict[str, str]:
    return {criterion.name: criterion.status for criterion in found}


def test_a_quiet_machine_without_gpu_is_go() -> None:
    found = criteria(FINE, Limits(), gpu_configured=False)
    assert found == [
        Criterion("db connections", "go", "7 of 100 in use (2 active, 5 idle), limit 80 %"),
        Criterion("memory", "go", "12.0 of 16.0 GB available (75 %), at least 4 GB"),
        Criterion("gpu", "not_applicable", "none here and none configured"),
    ]


@pytest.mark.parametrize(
    ("sample", "limits", "status"),
    [
        (replace(FINE, connections=Connections(80, 1, 79, 100)), Limits(), "go"),
        (replace(FINE, connections=Connections(81, 1, 80, 100)), Limits(), "no_go"),
        (replace(FINE, connections=Connections(7, 1, 6, 100)), Limits(0.95, 0.05), "no_go"),
    ],
)
def test_connections_limit(sample: MachineSample, limits: Limits, status: str) -> None:
    assert statuses(criteria(sample, limits, False))["db connections"] == status


@pytest.mark.parametrize(
    ("available", "minimum", "status"),
    [(4 * GB, 4, "go"), (4 * GB - 1, 4, "no_go"), (3 * GB, 2.5, "go"), (0, 0, "go")],
)
def test_memory_limit(available: int, minimum: float, status: str) -> None:
    sample = replace(FINE, memory=Memory(16 * GB, available))
    limits = Limits(min_available_memory_gb=minimum)
    assert statuses(criteria(sample, limits, False))["memory"] == status


def test_gpus_are_judged_each() -> None:
    full = GpuDevice(1, "NVIDIA H100", None, 77 * GB, 80 * GB)
    found = criteria(replace(FINE, gpus=(H100, full)), Limits(), gpu_configured=True)
    assert found[2:] == [
        Criterion(
            "gpu 0",
            "go",
            "NVIDIA H100: 20.0 of 80.0 GB in use (25 %), limit 95 %; utilisation 3 %",
        ),
        Criterion(
            "gpu 1",
            "no_go",
            "NVIDIA H100: 77.0 of 80.0 GB in use (96 %), limit 95 %; utilisation unknown",
        ),
    ]


def test_a_configured_gpu_that_cannot_be_read_is_no_go() -> None:
    unreadable = replace(FINE, gpu_error="driver mismatch")
    assert statuses(criteria(unreadable, Limits(), gpu_configured=True))["gpu"] == "no_go"
    assert statuses(criteria(FINE, Limits(), gpu_configured=True))["gpu"] == "no_go"
    assert statuses(criteria(unreadable, Limits(), gpu_configured=False))["gpu"] == "not_applicable"


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_limit_must_stay_broken_for_the_patience() -> None:
    clock = Clock()
    watch = LimitWatch(Limits(), gpu_configured=False, clock=clock)
    for at, sample in [(0, BROKEN), (9, BROKEN), (9.5, FINE), (12, BROKEN), (21, BROKEN)]:
        clock.now = at
        watch.observe(sample)
        assert watch.breach is None
    clock.now = 22
    watch.observe(BROKEN)
    assert watch.breach == (
        "memory beyond its limit for 10 s: 3.0 of 16.0 GB available (19 %), at least 4 GB"
    )
    watch.observe(FINE)
    assert watch.breach is not None, "a breach is never taken back"


def test_two_limits_that_break_in_turn_are_no_breach() -> None:
    clock = Clock()
    watch = LimitWatch(Limits(), gpu_configured=False, clock=clock)
    crowded = replace(FINE, connections=Connections(90, 1, 89, 100))
    for at in range(0, 60, 4):
        clock.now = at
        watch.observe(BROKEN if at % 8 else crowded)
    assert watch.breach is None


def test_a_reading_of_this_machine(postgres_engine: sa.Engine) -> None:
    with postgres_engine.connect() as idle, postgres_engine.connect() as other:
        idle.execute(sa.text("SELECT 1"))
        sample = take_sample(postgres_engine)
        assert take_sample(other).connections.total >= 2
    assert sample.connections.max >= 10
    assert sample.connections.active >= 1, "the reader itself"
    assert sample.connections.idle >= 1
    # Every session of ours tells its state; the server's own workers have none and do not count.
    assert sample.connections.total == sample.connections.active + sample.connections.idle
    assert 0 < sample.memory.available <= sample.memory.total
    row = replace(sample, gpus=(H100,)).row("run-1")
    SampleStore(postgres_engine).add_samples([row])
    assert SampleStore(postgres_engine).samples(["run-1"]) == [row]


def monitor_connections(engine: sa.Engine) -> int:
    """Sessions of our database, this one not counted."""
    with engine.connect() as connection:
        return connection.execute(
            sa.text(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
        ).scalar_one()


def test_monitor_keeps_samples_on_a_connection_of_its_own(postgres_engine: sa.Engine) -> None:
    """The run may use up its whole pool: the monitor goes on."""
    url = postgres_engine.url
    small = sa.create_engine(url, pool_size=1, max_overflow=0, pool_timeout=WAIT_SECONDS)
    store, several = SampleStore(postgres_engine), threading.Event()

    def keep(samples: Sequence[ResourceSample]) -> None:
        store.add_samples(samples)
        if len(store.samples(["run-1"])) >= 3:
            several.set()

    with Monitor(small, Limits(min_available_memory_gb=0), "run-1", keep, interval=0.01) as monitor:
        with small.connect():
            assert several.wait(WAIT_SECONDS)
        assert monitor.breach() is None
    assert monitor.failures == 0
    kept = store.samples(["run-1"])
    assert monitor.samples == len(kept)
    assert [row.at for row in kept] == sorted(row.at for row in kept if row.at)
    small.dispose()
    postgres_engine.dispose()
    assert monitor_connections(sa.create_engine(url, poolclass=sa.NullPool)) == 0


def test_monitor_outlives_failing_samples(postgres_engine: sa.Engine) -> None:
    """Its session is cut after the first sample: the next fails, is counted, the third works."""
    recovered = threading.Event()
    kept: list[ResourceSample] = []

    def keep(samples: Sequence[ResourceSample]) -> None:
        kept.extend(samples)
        if len(kept) == 1:
            with postgres_engine.connect() as connection:
                connection.execute(
                    sa.text(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                        " AND backend_type = 'client backend'"
                    )
                )
        else:
            recovered.set()

    with Monitor(postgres_engine, Limits(), "run-1", keep, interval=0.01) as monitor:
        assert recovered.wait(WAIT_SECONDS)
    assert monitor.failures == 1
    assert "connection" in str(monitor.last_failure)


def test_monitor_counts_a_store_that_refuses(postgres_engine: sa.Engine) -> None:
    tries, enough = [], threading.Event()

    def keep(samples: Sequence[ResourceSample]) -> None:
        tries.append(samples)
        if len(tries) >= 2:
            enough.set()
        raise RuntimeError("the store is full")

    with Monitor(postgres_engine, Limits(), "run-1", keep, interval=0.01) as monitor:
        assert enough.wait(WAIT_SECONDS)
    assert monitor.samples == 0
    assert monitor.failures == len(tries)
    assert monitor.last_failure == "the store is full"


def test_monitor_says_which_limit_stays_broken(postgres_engine: sa.Engine) -> None:
    clock, sampled = Clock(), threading.Event()

    def keep(samples: Sequence[ResourceSample]) -> None:
        clock.now += 6
        if clock.now > 12:
            sampled.set()

    limits = Limits(min_available_memory_gb=1e6)
    with Monitor(postgres_engine, limits, "run-1", keep, interval=0.01, clock=clock) as monitor:
        assert sampled.wait(WAIT_SECONDS)
    breach = monitor.breach()
    assert breach is not None
    assert breach.startswith("memory beyond its limit for 12 s: ")
    monitor.stop()
