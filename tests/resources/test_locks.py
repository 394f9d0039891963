"""Session locks: held by one, free when their session ends however it ends."""

import sqlalchemy as sa

from resources.locks import LockSpace, SessionLock, is_held


def held(engine: sa.Engine, name: str) -> bool:
    with engine.connect() as connection:
        return is_held(connection, LockSpace.RUN, name)


def test_one_holder_at_a_time(postgres_engine: sa.Engine) -> None:
    first = SessionLock(postgres_engine, LockSpace.RUN, "run-1")
    second = SessionLock(postgres_engine, LockSpace.RUN, "run-1")
    assert first.try_acquire()
    assert first.try_acquire()
    assert not second.try_acquire()
    assert held(postgres_engine, "run-1")
    first.release()
    assert second.try_acquire()
    second.release()
    assert not held(postgres_engine, "run-1")


def test_names_and_spaces_do_not_meet(postgres_engine: sa.Engine) -> None:
    lock = SessionLock(postgres_engine, LockSpace.DEVICE, "run-1")
    assert lock.try_acquire()
    assert not held(postgres_engine, "run-1")
    assert SessionLock(postgres_engine, LockSpace.RUN, "run-1").try_acquire()
    lock.release()


def test_a_cut_connection_frees_the_lock_and_the_holder_takes_it_again(
    postgres_engine: sa.Engine,
) -> None:
    lock = SessionLock(postgres_engine, LockSpace.RUN, "run-2")
    assert lock.try_acquire()
    with postgres_engine.connect() as connection:
        connection.execute(
            sa.text(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks"
                " WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
            )
        )
    assert not held(postgres_engine, "run-2")
    assert lock.try_acquire()
    assert held(postgres_engine, "run-2")
    lock.release()


def test_waiting_goes_on_until_the_lock_is_free(postgres_engine: sa.Engine) -> None:
    first = SessionLock(postgres_engine, LockSpace.RUN, "run-3")
    second = SessionLock(postgres_engine, LockSpace.RUN, "run-3")
    first.try_acquire()
    waits = iter([lambda: None, first.release])
    second.acquire(lambda: next(waits)())
    assert held(postgres_engine, "run-3")
    second.release()
