"""What logs once said, kept for ever, and the budget of reads that all processes share."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from resources import store_schema as schema
from resources.cloud.token_bucket import Bucket, empty_until, full, take
from resources.store_base import StoreBase, storable


class DiagnosisStore(StoreBase):
    """Every public method is one transaction. Safe to use from several threads and processes."""

    def take_read(self, name: str, per_minute: float, burst: float) -> float:
        """Seconds to wait before the next request under budget ``name``; 0.0: one was taken."""
        with self._engine.begin() as connection:
            now, bucket = _bucket(connection, name, per_minute, burst)
            wait, bucket = take(bucket, now)
            _keep(connection, name, bucket)
        return wait

    def pause_reads(self, name: str, per_minute: float, burst: float, seconds: float) -> None:
        """Nothing more under ``name`` for ``seconds``: the API asked for it."""
        with self._engine.begin() as connection:
            now, bucket = _bucket(connection, name, per_minute, burst)
            _keep(connection, name, empty_until(bucket, now + seconds))

    def diagnosis(self, resource: str) -> Mapping[str, Any] | None:
        """What was kept of ``resource``, the full name of an execution or a job."""
        table = schema.diagnoses.c
        query = sa.select(table.content).where(table.resource == resource)
        with self._engine.connect() as connection:
            found: Mapping[str, Any] | None = connection.execute(query).scalar_one_or_none()
        return found

    def keep_diagnosis(self, resource: str, content: Mapping[str, Any]) -> None:
        """Of something that is over: it is never read again. The first one stays."""
        values = {"resource": resource, "content": storable(dict(content))}
        with self._engine.begin() as connection:
            connection.execute(insert(schema.diagnoses).values(values).on_conflict_do_nothing())


def _bucket(
    connection: sa.Connection, name: str, per_minute: float, burst: float
) -> tuple[float, Bucket]:
    """Now, on the database's clock in seconds, and the bucket, whose row is held."""
    new = full(per_minute, burst, 0.0)
    now = sa.func.clock_timestamp()
    first = insert(schema.request_budgets).values(name=name, tokens=new.tokens, at=now)
    connection.execute(first.on_conflict_do_nothing())
    table = schema.request_budgets.c
    seconds = sa.func.extract("epoch", table.at), sa.func.extract("epoch", now)
    query = sa.select(table.tokens, *seconds).where(table.name == name).with_for_update()
    tokens, at, read_at = connection.execute(query).one()
    return float(read_at), Bucket(per_minute, burst, tokens, float(at))


def _keep(connection: sa.Connection, name: str, bucket: Bucket) -> None:
    table = schema.request_budgets
    values = {"tokens": bucket.tokens, "at": sa.func.to_timestamp(bucket.at)}
    connection.execute(sa.update(table).where(table.c.name == name).values(values))
