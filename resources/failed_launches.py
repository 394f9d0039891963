"""Launches that ended badly, for those who are to hear of it."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa

from resources import store_schema as schema
from resources.launch_state import ENDED, LaunchState
from resources.launch_store import Launch
from resources.store_base import StoreBase

BAD: frozenset[LaunchState] = ENDED - {"succeeded", "cancelled"}
"""Neither as wished nor because somebody stopped it."""


class FailedLaunches(StoreBase):
    """Every public method is one transaction."""

    def ended(
        self, after: datetime, quiet: timedelta, limit: int
    ) -> tuple[Sequence[Launch], datetime]:
        """Those that ended badly after ``after`` and at least ``quiet`` ago by the database's clock,
        oldest first; and the time up to which these are all.

        What ended is not updated any more: its last update is its end.
        """
        table = schema.launches.c
        now = sa.select(sa.func.clock_timestamp())
        with self._engine.connect() as connection:
            until = max(after, connection.execute(now).scalar_one() - quiet)
            bad = table.state.in_(sorted(BAD))
            then = (table.updated_at > after) & (table.updated_at <= until)
            query = sa.select(*_columns()).where(bad & then)
            query = query.order_by(table.updated_at, table.id).limit(limit)
            found = [Launch(**row) for row in connection.execute(query).mappings()]
        last = found[-1].updated_at if len(found) == limit else None
        return found, last or until

    def made_between(self, job: str, began: datetime, ended: datetime) -> Launch | None:
        """The newest launch of ``job`` that somebody worked on in this time, of whatever end."""
        table = schema.launches.c
        then = (table.job == job) & (table.created_at <= ended) & (table.updated_at >= began)
        query = sa.select(*_columns()).where(then).order_by(table.created_at.desc()).limit(1)
        with self._engine.connect() as connection:
            row = connection.execute(query).mappings().one_or_none()
        return Launch(**row) if row else None


def _columns() -> list["sa.Column[object]"]:
    return [schema.launches.c[name] for name in Launch.__dataclass_fields__]
