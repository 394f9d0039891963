"""PostgreSQL session advisory locks: they die with their process, also after kill -9."""

from collections.abc import Callable
from enum import IntEnum

import sqlalchemy as sa


class LockSpace(IntEnum):
    """First key of the advisory lock; the second is the hash of a name."""

    RUN = 0x666F7201
    DEVICE = 0x666F7202
    LAUNCH = 0x666F7203


class SessionLock:
    """One advisory lock on a connection of its own, held until released or until the process ends."""

    def __init__(self, engine: sa.Engine, space: LockSpace, name: str) -> None:
        self._engine = engine
        self._keys = {"space": int(space), "name": name}
        self._connection: sa.Connection | None = None

    def try_acquire(self) -> bool:
        """Takes the lock if it is free. Takes it again after its connection was cut."""
        if self._connection is not None and self._alive():
            return True
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        # A pooled connection would go back to the pool with the lock still on it.
        connection.detach()
        taken = connection.execute(
            sa.text("SELECT pg_try_advisory_lock(:space, hashtext(:name))"), self._keys
        ).scalar_one()
        if taken:
            self._connection = connection
        else:
            connection.close()
        return bool(taken)

    def acquire(self, wait: Callable[[], None]) -> None:
        """Calls ``wait`` between tries until the lock is ours; ``wait`` may raise to give up."""
        while not self.try_acquire():
            wait()

    def release(self) -> None:
        """At once: the end of a session is noticed by the server a moment later."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            query = sa.text("SELECT pg_advisory_unlock(:space, hashtext(:name))")
            try:
                connection.execute(query, self._keys)
            except sa.exc.DBAPIError:
                connection.invalidate()
            connection.close()

    def _alive(self) -> bool:
        assert self._connection is not None
        try:
            self._connection.execute(sa.text("SELECT 1"))
        except sa.exc.DBAPIError:
            self._connection.invalidate()
            self._connection.close()
            self._connection = None
            return False
        return True


def is_held(connection: sa.Connection, space: LockSpace, name: str) -> bool:
    """Whether any session holds the lock. Takes nothing itself."""
    query = sa.text(
        "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " AND classid::bigint = :space AND objsubid = 2"
        " AND objid::bigint = hashtext(:name)::bigint & 4294967295)"
    )
    return bool(connection.execute(query, {"space": int(space), "name": name}).scalar_one())
