"""One reading of the machine: memory, database connections, GPUs."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import psutil
import sqlalchemy as sa

from resources.cgroup_memory import group_memory
from resources.gpu.devices import GpuDevice, probe
from resources.store_types import ResourceSample

GIGABYTE = 10**9
DATABASE_MILLISECONDS = 5000

_CONNECTIONS = sa.text(
    "SELECT count(*) AS total,"
    " count(*) FILTER (WHERE state = 'active') AS active,"
    " count(*) FILTER (WHERE state LIKE 'idle%') AS idle,"
    " current_setting('max_connections')::int AS max"
    " FROM pg_stat_activity WHERE backend_type = 'client backend'"
)


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes; those of the tightest control group where its limit is below the machine's."""

    total: int
    available: int

    @property
    def used_share(self) -> float:
        return 1 - self.available / self.total


@dataclass(frozen=True, slots=True)
class Connections:
    """Client connections of the whole database server, which is what its maximum counts."""

    total: int
    active: int
    idle: int
    max: int

    @property
    def used_share(self) -> float:
        return self.total / self.max


@dataclass(frozen=True, slots=True)
class MachineSample:
    """One reading. ``gpu_error`` says why devices that should be there could not be read."""

    at: datetime
    memory: Memory
    connections: Connections
    gpus: tuple[GpuDevice, ...] = ()
    gpu_error: str | None = None

    def row(self, run_id: str) -> ResourceSample:
        """The sample as the store keeps it."""
        return ResourceSample(
            run_id=run_id,
            memory_total=self.memory.total,
            memory_available=self.memory.available,
            connections_total=self.connections.total,
            connections_active=self.connections.active,
            connections_idle=self.connections.idle,
            connections_max=self.connections.max,
            gpus=tuple(asdict(gpu) for gpu in self.gpus),
            at=self.at,
        )


def take_sample(source: sa.Engine | sa.Connection) -> MachineSample:
    """Read everything once. Raises the database's error when it does not answer."""
    if isinstance(source, sa.Engine):
        with source.begin() as connection:
            connection.execute(sa.text(f"SET LOCAL statement_timeout = {DATABASE_MILLISECONDS}"))
            connections = _connections(connection)
    else:
        connections = _connections(source)
    report = probe()
    gpu_error = report.detail if report.state == "error" else None
    return MachineSample(datetime.now(UTC), memory(), connections, report.devices, gpu_error)


def memory() -> Memory:
    """The machine's memory, or what its control groups leave of it."""
    machine = psutil.virtual_memory()
    total, available = machine.total, machine.available
    for group in group_memory():
        total = min(total, group.limit)
        available = min(available, max(0, group.limit - group.used))
    return Memory(total, available)


def own_memory() -> int:
    """Bytes that this process has in memory now."""
    return int(psutil.Process().memory_info().rss)


def _connections(connection: sa.Connection) -> Connections:
    row = connection.execute(_CONNECTIONS).one()
    return Connections(row.total, row.active, row.idle, row.max)


def percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")
