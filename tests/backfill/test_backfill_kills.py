"""Whoever dies in the middle of a backfill: a run, the daemon, or both with everything around them."""

import signal

import psutil
import pytest

from tests.alerts.dagster_dev import DagsterDev
from tests.backfill.staged import EACH, NAMED, RESULTS, STAGED, Staged
from tests.backfill.test_backfill_order import ended
from tests.chat_server import ChatServer, Reply

pytestmark = pytest.mark.chaos

SLOW = "Item 2 is about the number 14."
"""The first subject of ramp-50."""


def at_work(staged: Staged, partition: str) -> list[int]:
    """Process ids of the stage's open runs that have claimed something."""
    rows = staged.project.query(
        "SELECT DISTINCT pid FROM forge.runs WHERE partition = :partition AND state = 'running'"
        " AND first_claim IS NOT NULL",
        partition=partition,
    )
    return [row["pid"] for row in rows]


def holding_ramp(server: ChatServer) -> None:
    """The first answer of ramp-50 never comes; whoever asks again gets one."""
    server.script(SLOW, Reply(hangs=True), Reply())


def test_a_run_that_was_killed_holds_nothing(staged: Staged, chat_server: ChatServer) -> None:
    """Nobody tells Dagster of its end: without us its slot would stay taken, its stage half done."""
    staged.set_up()
    holding_ramp(chat_server)
    with DagsterDev(staged.project) as dev:
        backfill = dev.backfill(NAMED, STAGED)
        (pid,) = dev.until(lambda: at_work(staged, "ramp-50"), "run of ramp-50 at work")
        dev.until(lambda: chat_server.times(SLOW), "request that hangs")
        psutil.Process(pid).send_signal(signal.SIGKILL)
        assert ended(dev, backfill) == "COMPLETED_FAILED"
        assert len(staged.run_ids("ramp-50", "FAILURE")) == 1
        again = dev.backfill(NAMED, STAGED)
        assert ended(dev, again) == "COMPLETED_SUCCESS"
        assert dev.partitions(RESULTS)["materialized"] == set(NAMED)
    assert staged.done() == NAMED
    assert staged.project.counts() == {"completed": EACH * len(NAMED)}
    assert staged.made_twice() == 0


def test_everything_is_killed_and_started_again(staged: Staged, chat_server: ChatServer) -> None:
    """As after a power cut: runs that Dagster believes started fill both slots of the queue."""
    staged.set_up()
    holding_ramp(chat_server)
    with DagsterDev(staged.project) as dev:
        backfill = dev.backfill(NAMED, STAGED)
        dev.until(lambda: chat_server.times(SLOW), "request of ramp-50 that hangs")
        dev.until(lambda: at_work(staged, "ramp-50"), "run of ramp-50 at work")
        dev.kill()
    with DagsterDev(staged.project) as dev:
        dev.until(lambda: staged.run_ids("ramp-50", "FAILURE"), "the dead run's end")
        assert ended(dev, backfill) == "COMPLETED_FAILED"
        again = dev.backfill(NAMED, STAGED)
        assert ended(dev, again) == "COMPLETED_SUCCESS"
    assert staged.project.counts() == {"completed": EACH * len(NAMED)}
    assert staged.made_twice() == 0


def test_the_daemon_is_killed_and_started_again(staged: Staged, chat_server: ChatServer) -> None:
    staged.set_up()
    with DagsterDev(staged.project) as dev:
        backfill = dev.backfill(NAMED, STAGED)
        dev.until(lambda: len(staged.runs()) == len(NAMED), "the queue's three runs")
        dev.kill_daemon()
    with DagsterDev(staged.project) as dev:
        assert ended(dev, backfill) == "COMPLETED_SUCCESS"
        assert dev.partitions(RESULTS)["materialized"] == set(NAMED)
    assert staged.done() == NAMED
    assert staged.made_twice() == 0
