"""Two workers on one stage; one hangs past its lease and comes back with late results."""

import signal
import time

import pytest
import sqlalchemy as sa

from tests.chaos.conftest import Figures, MakeProject
from tests.chaos.stage_check import (
    RUN,
    check_each_ended_once,
    ended,
    run_stage,
    running,
    served,
    two_steps,
)
from tests.chaos.stub_server import StubServer
from tests.pipeline.project import SMALL, Command, Project

SUBJECTS = 60


@pytest.fixture
def project(database: str, server: StubServer, make_project: MakeProject) -> Project:
    server.seconds = 1.0
    made = make_project(database, server, {"canary-10": SUBJECTS})
    made.configure(models={SMALL: served(server, max_batch=16)})
    return made


def hang(command: Command, project: Project, server: StubServer) -> int:
    """Stops the process while it has requests at the server, but not inside a transaction.

    Returns how many rows it holds.
    """

    def stopped() -> bool:
        command.until(lambda: ended(project) >= 8 and server.now, "work in flight")
        command.send(signal.SIGSTOP)
        if running(project) and not in_transaction(project):
            return True
        command.send(signal.SIGCONT)
        return False

    command.until(stopped, "a moment between two transactions")
    return running(project)


def in_transaction(project: Project) -> int:
    return int(
        project.scalar(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND xact_start IS NOT NULL"
        )
    )


def end_leases(project: Project) -> int:
    return project.execute(
        "UPDATE forge.interactions SET lease_until = clock_timestamp() - interval '1 second'"
        " WHERE status = 'running'"
    )


@pytest.mark.chaos
def test_a_worker_that_hangs_past_its_lease(
    project: Project, server: StubServer, figures: Figures
) -> None:
    first = project.start(RUN, *run_stage("canary-10"))
    try:
        held = hang(first, project, server)
        # What it has been answered meanwhile waits in its sockets.
        answered = server.answered.total()
        end_leases(project)
        second = project.forge(*run_stage("canary-10"))
        assert second.code == 0, second.text
        assert check_each_ended_once(project, SUBJECTS) == {"completed": 2 * SUBJECTS}
        first.send(signal.SIGCONT)
        late = first.wait()
    finally:
        first.end()
    refused = project.scalar("SELECT count(*) FROM forge.interaction_events WHERE kind = 'refused'")
    figures(
        f"{held} rows held when it hung, {answered} answered before; the other exit {second.code};"
        f" {refused} late results refused, the late one exit {late.code};"
        f" {server.answered.total() - 2 * SUBJECTS} answers made again"
    )
    assert refused > 0
    assert "refused late results" in late.text
    assert check_each_ended_once(project, SUBJECTS) == {"completed": 2 * SUBJECTS}
    assert late.code == 0, late.text


@pytest.mark.chaos
def test_a_worker_that_hangs_inside_a_transaction(
    project: Project, server: StubServer, figures: Figures
) -> None:
    """Nobody can take back the rows that it has locked before the database has ended its session."""
    first = project.start(RUN, *run_stage("canary-10"))
    try:
        hang_committing(first, project)
        began = time.monotonic()
        second = project.start(RUN, *run_stage("canary-10"))
        try:
            second.until(lambda: not hanging_sessions(project), "the hanging session's end")
            seconds = time.monotonic() - began
            end_leases(project)
            done = second.wait()
        finally:
            second.end()
        assert done.code == 0, done.text
        assert check_each_ended_once(project, SUBJECTS) == {"completed": 2 * SUBJECTS}
        first.send(signal.SIGCONT)
        late = first.wait()
    finally:
        first.end()
    figures(
        f"its session ended after {seconds:.0f} s; the other exit {done.code}, late {late.code}"
    )
    assert late.code == 0, late.text
    assert check_each_ended_once(project, SUBJECTS) == {"completed": 2 * SUBJECTS}


def hang_committing(command: Command, project: Project) -> None:
    """Stops the process while it waits for the last statement of a commit, which then comes through."""
    command.until(lambda: ended(project) >= 8, "first results")
    with project.engine.connect() as connection:
        connection.execute(sa.text("SELECT run_id FROM forge.runs FOR UPDATE"))
        command.until(lambda: waits_for_a_lock(project), "a commit that waits for the run's row")
        command.send(signal.SIGSTOP)
    command.until(lambda: not waits_for_a_lock(project), "the statement's end")
    command.until(lambda: hanging_sessions(project), "a session that hangs")


def hanging_sessions(project: Project) -> int:
    """Inside a transaction for longer than any worker that lives."""
    return int(
        project.scalar(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND state = 'idle in transaction' AND state_change < clock_timestamp() - interval '2 s'"
        )
    )


def waits_for_a_lock(project: Project) -> bool:
    return bool(
        project.scalar(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND wait_event_type = 'Lock'"
        )
    )


@pytest.mark.chaos
def test_two_workers_share_a_stage(
    database: str, server: StubServer, make_project: MakeProject, figures: Figures
) -> None:
    server.seconds = 1.0
    subjects = 200
    project = make_project(database, server, {"canary-10": subjects})
    project.configure(models={SMALL: served(server, max_batch=8)})
    workers = [project.start(RUN, *run_stage("canary-10")) for _ in range(2)]
    try:
        codes = [worker.wait() for worker in workers]
    finally:
        for worker in workers:
            worker.end()
    assert [done.code for done in codes] == [0, 0], codes
    assert check_each_ended_once(project, subjects) == {"completed": 2 * subjects}
    shares = project.query(
        "SELECT split_part(run_id, '/', 1) AS run, count(*) AS number"
        " FROM forge.interaction_events WHERE kind = 'completed' GROUP BY run"
    )
    extra = server.answered.total() - 2 * subjects
    figures(f"shares {sorted(row['number'] for row in shares)}, {extra} answers made twice")
    assert len(shares) == 2
    assert extra == 0


def test_a_workflow_that_is_edited_while_a_run_works(project: Project, server: StubServer) -> None:
    """No row of the new version is answered with the old prompt, whoever asks for it."""
    old = project.start(RUN, *run_stage("canary-10"), "--workers", "2")
    try:
        old.until(lambda: ended(project) >= 8 and server.now, "work in flight")
        project.write_workflow(
            [{**step, "prompt": f"NEW {step['prompt']}"} for step in two_steps()]
        )
        new = project.forge(*run_stage("canary-10"))
        stopped = old.wait()
    finally:
        old.end()
    assert new.code == 0, new.text
    assert stopped.code == 1, stopped.text
    assert "another run has planned it by a workflow that was changed since" in stopped.err
    assert "Traceback" not in stopped.text
    live = "SELECT status, prompt FROM forge.interactions WHERE superseded_at IS NULL"
    rows = project.query(live)
    assert [row["status"] for row in rows] == ["completed"] * 2 * SUBJECTS
    assert all("NEW " in row["prompt"] for row in rows)
    assert project.stage("canary-10")["verdict"] == "passed"
