"""One reading of the machine: memory, database connections, GPUs."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from resources.gpu.devices import GpuDevice, probe
from resources.host_memory import Memory, memory
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


def _connections(connection: sa.Connection) -> Connections:
    row = connection.execute(_CONNECTIONS).one()
    return Connections(row.total, row.active, row.idle, row.max)


def percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")
