"""Which runs are alive: each holds an advisory lock of its id, and a run whose lock is free is dead."""

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import psutil
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from resources.interaction_store import InteractionStore, RunRow, StageScope
from resources.locks import LockSpace, SessionLock, is_held
from resources.worker_ids import run_of

_held: dict[str, SessionLock] = {}
"""Run locks of this process, kept until it ends: Dagster closes a run after its last step."""
_guard = threading.Lock()
_AGAIN_SECONDS = 5.0


def hold(engine: sa.Engine, run_id: str) -> None:
    """Takes the run's lock, if this process has not got it yet, and from now on whenever it is lost.

    A step that converts weights for an hour asks for nothing meanwhile: without the thread it would be
    buried alive after a restart of the database.
    """
    first = not _held
    lock = _held.setdefault(run_id, SessionLock(engine, LockSpace.RUN, run_id))
    with _guard:
        lock.try_acquire()
    if first:
        threading.Thread(target=_hold_on, name="hold run locks", daemon=True).start()


def _hold_on() -> None:
    while True:
        time.sleep(_AGAIN_SECONDS)
        for lock in list(_held.values()):
            with _guard, suppress(SQLAlchemyError):
                lock.try_acquire()


def announce_run(
    engine: sa.Engine, store: InteractionStore, run_id: str, scope: StageScope
) -> None:
    """Takes the run's lock, then writes its row: a row without its lock is a dead run."""
    hold(engine, run_id)
    announce(store, run_id, scope)


def announce(store: InteractionStore, run_id: str, scope: StageScope) -> None:
    """Writes the row of a run, or of a worker of it, that is of this process and has its lock."""
    store.register_run(run_id, scope, pid=os.getpid(), host=socket.gethostname())


def lives(engine: sa.Engine, store: InteractionStore, run_id: str) -> bool:
    """Whether the run's process does: by its lock, and where its row is of this host by its pid too.

    A restart of the database frees the locks of living runs for some seconds.
    """
    locked = run_of(run_id)
    if locked in _held:
        return True
    with engine.connect() as connection:
        if is_held(connection, LockSpace.RUN, locked):
            return True
    return any(_process_lives(store, run) for run in store.open_rows(run_id))


def _process_lives(store: InteractionStore, run: RunRow) -> bool:
    if run.host != socket.gethostname():
        # Its locks may have gone with a restart of the database: only what it renews can tell.
        return store.holds_leases(run_of(run.run_id))
    try:
        process = psutil.Process(run.pid)
        same = process.create_time() <= run.registered_at.timestamp()
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def running_runs(
    engine: sa.Engine, store: InteractionStore, scope: StageScope
) -> tuple[list[RunRow], list[RunRow]]:
    """The stage's open runs as (alive, dead)."""
    # Rows first: a run takes its lock before it writes its row, so a row without a lock is dead.
    alive: list[RunRow] = []
    dead: list[RunRow] = []
    for run in store.runs(scope, states=["running"]):
        (alive if lives(engine, store, run.run_id) else dead).append(run)
    return alive, dead


def bury_dead_runs(
    engine: sa.Engine,
    store: InteractionStore,
    scope: StageScope,
    report: Callable[[str], None],
) -> int:
    """Reclaims what runs hold that died; ``report`` is told each run id. Returns their number."""
    store.reclaim_left_behind(scope)
    _, dead = running_runs(engine, store, scope)
    for run in dead:
        store.reclaim_run(run.run_id)
        store.end_run(run.run_id, scope, "dead", "its process ended without closing the run")
        report(run.run_id)
    return len(dead)
