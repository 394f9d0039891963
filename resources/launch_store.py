"""Launches: what was intended, what became of it, and every step on the way."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import sqlalchemy as sa

from resources import store_schema as schema
from resources.launch_state import ENDED, UNSEEN, LaunchState
from resources.store_base import StoreBase, storable


@dataclass(frozen=True, slots=True)
class Launch:
    """One row. ``job``: its key in forge.yaml; ``holder``: who launches it; ``reported``: the state
    that Dagster was last told. ``execution``, ``job_name``, ``queue_item``, ``wandb_run``: the hops'
    own names, None as long as they are not known."""

    id: UUID
    state: LaunchState
    path: Literal["direct", "queue"]
    job: str
    project: str
    region: str
    queue: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    spec: Mapping[str, Any] = field(default_factory=dict)
    holder: str = ""
    queue_item: str | None = None
    execution: str | None = None
    job_name: str | None = None
    wandb_run: str | None = None
    reason: str | None = None
    reported: str = ""
    created_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def is_over(self) -> bool:
        return self.state in ENDED

    @property
    def short(self) -> str:
        """Enough of the id to name it by."""
        return self.id.hex[:8]


@dataclass(frozen=True, slots=True)
class LaunchEvent:
    at: datetime
    kind: str
    detail: Mapping[str, Any]


class LaunchStore(StoreBase):
    """Every public method is one transaction. Safe to use from several threads."""

    def begin(self, launch: Launch) -> Launch:
        """The intent, written before anything is asked for; with the times that it was given."""
        table = schema.launches
        values = {
            name: storable(getattr(launch, name))
            for name in Launch.__dataclass_fields__
            if name not in ("created_at", "updated_at", "id")
        }
        with self._engine.begin() as connection:
            insert = sa.insert(table).values(id=launch.id, **values).returning(*_columns())
            row = connection.execute(insert).mappings().one()
            _add_event(connection, launch.id, "intended", {"holder": launch.holder})
        return _launch(row)

    def change(
        self, launch: UUID, kind: str, detail: Mapping[str, Any] | None = None, **columns: Any
    ) -> bool:
        """An event, and ``columns`` with it; False, and nothing changed, for a launch that is over.

        What ended stays as it ended: news that come late or twice change nothing. Only ``reported``
        and ``reason`` may change afterwards, and alone they are no update: ``updated_at`` stays.
        """
        table = schema.launches.c
        update = sa.update(schema.launches).where(table.id == launch)
        if columns and columns.keys() <= {"reported", "reason"}:
            update = update.values(**storable(columns))
        else:
            now = sa.func.clock_timestamp()
            update = update.where(table.state.not_in(sorted(ENDED)))
            update = update.values(updated_at=now, **storable(columns))
        with self._engine.begin() as connection:
            if not connection.execute(update).rowcount:
                return False
            _add_event(connection, launch, kind, detail or {})
        return True

    def sending(
        self, launch: UUID, holder: str, kind: str, detail: Mapping[str, Any] | None = None
    ) -> bool:
        """Note that a request goes out; False, and nothing noted, when the launch is not ``holder``'s.

        Somebody else may have taken it up while the database was away and the lease with it.
        """
        table = schema.launches.c
        mine = (table.id == launch) & (table.holder == holder) & (table.state == "intended")
        query = sa.select(table.id).where(mine).with_for_update()
        with self._engine.begin() as connection:
            if connection.execute(query).one_or_none() is None:
                return False
            _add_event(connection, launch, kind, detail or {})
        return True

    def last_sent(self, launch: UUID) -> datetime | None:
        """When the newest request of ``sending`` went out, None before any."""
        table = schema.launch_events.c
        query = sa.select(sa.func.max(table.at)).where(
            (table.launch_id == launch) & table.kind.like("%\\_sent")
        )
        with self._engine.connect() as connection:
            found: datetime | None = connection.execute(query).scalar_one()
        return found

    @contextmanager
    def telling(self, launch: UUID) -> Iterator[Launch | None]:
        """The row, held while the block tells Dagster of it; afterwards its state counts as reported.

        Who tells of it meanwhile waits, then finds it reported. An error in the block marks nothing.
        """
        query = sa.select(*_columns()).where(schema.launches.c.id == launch).with_for_update()
        with self._engine.begin() as connection:
            row = connection.execute(query).mappings().one_or_none()
            yield _launch(row) if row else None
            if row is not None and row["reported"] != row["state"]:
                told = sa.update(schema.launches).where(schema.launches.c.id == launch)
                connection.execute(told.values(reported=row["state"]))
                _add_event(connection, launch, "reported", {"state": row["state"]})

    def launch(self, launch: UUID) -> Launch | None:
        found = self._rows(schema.launches.c.id == launch)
        return found[0] if found else None

    def named(self, text: str, project: str | None = None) -> Sequence[Launch]:
        """Those whose id begins with ``text``, or whose job, execution or run has that name.

        ``project``: None for all, where a full name is one in the world.
        """
        table = schema.launches.c
        # Full names and short ones; Google calls a project by its id here and its number there.
        short = "/" + text.rsplit("/", 1)[-1]
        named = (
            table.job_name.endswith(short, autoescape=True)
            | table.execution.endswith(short, autoescape=True)
            | (table.wandb_run == text)
            | (table.queue_item == text)
        )
        digits = text.lower().replace("-", "")
        if re.fullmatch(r"[0-9a-f]{4,32}", digits):
            named = named | _id_begins(digits)
        # As the job is called for people: its key and the first digits.
        shown = re.fullmatch(r"(.+)-([0-9a-f]{8})", text)
        if shown:
            named = named | ((table.job == shown[1]) & _id_begins(shown[2]))
        return self._rows(named if project is None else (table.project == project) & named)

    def unseen(self, project: str, job: str, since: datetime) -> Sequence[Launch]:
        """The launches of ``job`` whose job nobody has seen yet, begun at ``since`` or later, newest
        first."""
        table = schema.launches.c
        return self._rows(
            (table.project == project)
            & (table.job == job)
            & (table.created_at >= since)
            & table.state.in_(sorted(UNSEEN))
        )

    def watched(self, project: str, since: datetime) -> Sequence[Launch]:
        """Those begun at ``since`` or later that may still change, newest first."""
        table = schema.launches.c
        return self._rows(
            (table.project == project)
            & (table.created_at >= since)
            & table.state.not_in(sorted(ENDED))
        )

    def untold(self, project: str, since: datetime) -> Sequence[Launch]:
        """Those begun at ``since`` or later whose state Dagster was not told, newest first."""
        table = schema.launches.c
        return self._rows(
            (table.project == project)
            & (table.created_at >= since)
            & (table.state != table.reported)
            & (table.state != "intended")
        )

    def recent(self, limit: int, project: str) -> Sequence[Launch]:
        """The newest first."""
        return self._rows(schema.launches.c.project == project, limit=limit)

    def events(self, launch: UUID) -> Sequence[LaunchEvent]:
        """Oldest first."""
        table = schema.launch_events.c
        query = sa.select(table.at, table.kind, table.detail).where(table.launch_id == launch)
        with self._engine.connect() as connection:
            rows = connection.execute(query.order_by(table.id)).all()
        return [LaunchEvent(*row) for row in rows]

    def _rows(self, condition: Any, limit: int | None = None) -> Sequence[Launch]:
        table = schema.launches.c
        query = sa.select(*_columns()).where(condition)
        query = query.order_by(table.created_at.desc(), table.id).limit(limit)
        with self._engine.connect() as connection:
            rows = connection.execute(query).mappings().all()
        return [_launch(row) for row in rows]


def _columns() -> list[sa.Column[Any]]:
    return [schema.launches.c[name] for name in Launch.__dataclass_fields__]


def _id_begins(digits: str) -> sa.ColumnElement[bool]:
    plain = sa.func.replace(sa.cast(schema.launches.c.id, sa.Text), "-", "")
    return plain.like(f"{digits}%")


def _launch(row: sa.RowMapping) -> Launch:
    return Launch(**row)


def _add_event(
    connection: sa.Connection, launch: UUID, kind: str, detail: Mapping[str, Any]
) -> None:
    values = {"launch_id": launch, "kind": kind, "detail": storable(dict(detail))}
    connection.execute(sa.insert(schema.launch_events).values(values))
