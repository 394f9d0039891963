"""Messages to people: written down before they are sent, and marked when they arrived."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from resources import store_schema as schema
from resources.alert import Message
from resources.store_base import StoreBase, storable

WAITS = (
    timedelta(minutes=1),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
)
"""Before each further try of a message that did not arrive."""
KEPT = timedelta(days=30)
"""Nothing this old is looked at again by whoever makes messages."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A try. ``said``: why the message did not arrive, "" when it did; ``again``: it is tried later."""

    message: Message
    target: str
    said: str
    again: bool


class AlertStore(StoreBase):
    """Every public method is one transaction. Safe to use from several threads and processes."""

    def add(self, messages: Sequence[Message], targets: Collection[str]) -> Sequence[str]:
        """A row for each message and target; the keys that are new. Doing it again adds nothing."""
        rows = [
            {"key": made.key, "target": target, "title": made.title, "body": made.body}
            for made in messages
            for target in targets
        ]
        if not rows:
            return []
        table = schema.alerts
        statement = insert(table).values(storable(rows)).on_conflict_do_nothing()
        with self._engine.begin() as connection:
            added = connection.execute(statement.returning(table.c.key)).scalars().all()
        return list(dict.fromkeys(added))

    def deliver(
        self, send: Callable[[str, Message], str], passed_over: Collection[str] = ()
    ) -> Delivery | None:
        """Sends one message that is due to a target that is not passed over; None without any.

        ``send``: target, message -> why it did not arrive, or "". The row is held meanwhile, so
        that nobody else sends it; whoever is killed between the sending and the end of the
        transaction has sent a message that will be sent once more.
        """
        table = schema.alerts
        column = table.c
        now = sa.func.clock_timestamp()
        query = (
            sa.select(column.key, column.target, column.title, column.body, column.attempts)
            .where(column.next_at <= now, column.target.not_in(list(passed_over)))
            .order_by(column.attempts, column.next_at, column.key)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        with self._engine.begin() as connection:
            row = connection.execute(query).one_or_none()
            if row is None:
                return None
            message = Message(row.key, row.title, row.body)
            said = send(row.target, message)
            again = bool(said) and row.attempts < len(WAITS)
            values = {
                "attempts": row.attempts + 1,
                "sent_at": None if said else now,
                "next_at": now + WAITS[row.attempts] if again else None,
                "said": storable(said) or None,
            }
            mine = (column.key == row.key) & (column.target == row.target)
            connection.execute(sa.update(table).where(mine).values(values))
        return Delivery(message, row.target, said, again)

    def forget(self) -> int:
        """Removes what is over and older than KEPT; the number of rows."""
        column = schema.alerts.c
        old = column.made_at < sa.func.clock_timestamp() - KEPT
        with self._engine.begin() as connection:
            statement = sa.delete(schema.alerts).where(old, column.next_at.is_(None))
            return connection.execute(statement).rowcount
