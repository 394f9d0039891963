"""The lock of a run, as others see it."""

import time

import sqlalchemy as sa

from forge_assets.interactions import presence
from resources.locks import LockSpace, is_held

PATIENCE_SECONDS = 60


def test_a_lock_that_was_cut_off_is_taken_again_while_the_run_is_busy_elsewhere(
    postgres_engine: sa.Engine,
) -> None:
    """As in a step that converts weights for an hour: nothing of ours asks for the lock."""
    presence.hold(postgres_engine, "cut-off")
    with postgres_engine.connect() as connection:
        assert is_held(connection, LockSpace.RUN, "cut-off")
        connection.execute(
            sa.text(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks"
                " WHERE locktype = 'advisory' AND classid::bigint = :space AND pid <> pg_backend_pid()"
            ),
            {"space": int(LockSpace.RUN)},
        )
        connection.rollback()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not is_held(connection, LockSpace.RUN, "cut-off"):
            assert time.monotonic() < deadline, "nobody took it again"
            connection.execute(sa.text("SELECT pg_sleep(0.1)"))
