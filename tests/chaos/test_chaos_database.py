"""The database goes away in mid-run, for seconds or for good, or only the connections are cut."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from resources.embedded_postgres import EmbeddedPostgres
from resources.postgres_instance import locate
from tests.chaos.conftest import Figures, MakeProject
from tests.chaos.plain_postgres import PlainPostgres
from tests.chaos.stage_check import RUN, check_each_ended_once, ended, run_stage, served
from tests.chaos.stub_server import StubServer
from tests.pipeline.project import ROOT, SMALL, Command, Project
from tests.postgres import database_text, make_tables, remove_instance

AWAY_SECONDS = 20
SUBJECTS = 100
STAGES = {"canary-10": SUBJECTS}
DONE = {"completed": 2 * SUBJECTS}


@pytest.fixture
def postgres() -> Iterator[PlainPostgres]:
    made = PlainPostgres()
    yield made
    made.close()


def slow(project: Project, server: StubServer) -> None:
    """Work for half a minute, in which answers never cease to come."""
    server.seconds = 1.0
    project.configure(models={SMALL: served(server, max_batch=8)})


def in_mid_run(command: Command, project: Project, number: int = 20) -> None:
    command.until(lambda: ended(project) >= number, f"{number} interactions ended")


@pytest.mark.chaos
def test_an_external_database_that_is_away_for_twenty_seconds(
    postgres: PlainPostgres, server: StubServer, make_project: MakeProject, figures: Figures
) -> None:
    project = make_project(postgres.url, server, STAGES)
    slow(project, server)
    command = project.start(RUN, *run_stage("canary-10"))
    try:
        in_mid_run(command, project)
        postgres.stop()
        asked = server.asked.total()
        time.sleep(AWAY_SECONDS)  # the outage itself
        meanwhile = server.asked.total() - asked
        postgres.start()
        began = time.monotonic()
        in_mid_run(command, project, ended(project) + 1)
        back = time.monotonic() - began
        done = command.wait()
    finally:
        command.end()
    assert done.code == 0, done.text
    assert check_each_ended_once(project, SUBJECTS) == DONE
    extra = server.answered.total() - 2 * SUBJECTS
    figures(
        f"away {AWAY_SECONDS} s, {meanwhile} requests sent meanwhile, next commit {back:.1f} s after"
        f" the start, exit 0, {extra} of {2 * SUBJECTS} answers made again"
    )


@pytest.mark.chaos
def test_an_external_database_that_stays_away(
    postgres: PlainPostgres, server: StubServer, make_project: MakeProject, figures: Figures
) -> None:
    project = make_project(postgres.url, server, STAGES)
    slow(project, server)
    command = project.start(RUN, *run_stage("canary-10"))
    try:
        in_mid_run(command, project)
        postgres.stop()
        began = time.monotonic()
        gone = command.wait()
        seconds = time.monotonic() - began
    finally:
        command.end()
    lines = [line for line in gone.err.splitlines() if line.startswith("forge: ")]
    figures(f"exit {gone.code} after {seconds:.0f} s: {lines}")
    assert gone.code == 1, gone.text
    assert len(lines) == 1, gone.text
    assert lines[0].startswith("forge: the database d")
    assert "Connection refused" in lines[0]
    assert "Traceback" not in gone.text
    postgres.start()
    before = ended(project)
    server.seconds = 0.0
    again = project.forge(*run_stage("canary-10"))
    assert again.code == 0, again.text
    assert check_each_ended_once(project, SUBJECTS) == DONE
    extra = server.answered.total() - 2 * SUBJECTS
    figures(f"{before} had been committed; the same command made the rest, {extra} answers again")


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """The server that commands with this home find for themselves."""
    made = EmbeddedPostgres(locate(ROOT, tmp_path / "data" / "forge-assets"))
    made.open()
    yield made
    made.close()
    remove_instance(made.instance)


@pytest.mark.chaos
def test_the_embedded_server_is_killed_and_stays_away_for_twenty_seconds(
    embedded: EmbeddedPostgres,
    tmp_path: Path,
    server: StubServer,
    make_project: MakeProject,
    figures: Figures,
) -> None:
    url = database_text(embedded.url())
    make_tables(url)
    project = make_project(url, server, STAGES)
    del project.environment["FORGE_DATABASE_URL"]
    project.environment["XDG_DATA_HOME"] = str(tmp_path / "data")
    slow(project, server)
    command = project.start(RUN, *run_stage("canary-10"))
    try:
        in_mid_run(command, project)
        state = embedded.instance.state()
        keeper, postmaster = (int(str(state[name])) for name in ("keeper", "postmaster"))
        # Held still, the keeper cannot bring the server back: else it is away for a second only.
        os.kill(keeper, signal.SIGSTOP)
        try:
            os.kill(postmaster, signal.SIGKILL)
            time.sleep(AWAY_SECONDS)  # the outage itself
        finally:
            os.kill(keeper, signal.SIGCONT)
        embedded.ensure_running()
        began = time.monotonic()
        in_mid_run(command, project, ended(project) + 1)
        back = time.monotonic() - began
        done = command.wait()
    finally:
        command.end()
    assert done.code == 0, done.text
    assert check_each_ended_once(project, SUBJECTS) == DONE
    assert embedded.instance.state()["postmaster"] != postmaster
    extra = server.answered.total() - 2 * SUBJECTS
    figures(f"away {AWAY_SECONDS} s, next commit {back:.1f} s later, exit 0, {extra} answers again")


def cut_connections(project: Project) -> int:
    """Ends every session of the project's database but the asking one; how many."""
    return int(
        project.scalar(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    )


@pytest.mark.parametrize(
    ("cuts", "subjects"),
    [pytest.param(2, 40, id="short"), pytest.param(20, 400, id="long", marks=pytest.mark.chaos)],
)
def test_connections_are_cut_again_and_again(
    cuts: int,
    subjects: int,
    database: str,
    server: StubServer,
    make_project: MakeProject,
    figures: Figures,
) -> None:
    project = make_project(database, server, {"canary-10": subjects})
    server.seconds = 0.2
    project.configure(models={SMALL: served(server, max_batch=16)})
    command = project.start(RUN, *run_stage("canary-10"))
    try:
        number = 0
        for cut in range(cuts):
            in_mid_run(command, project, cut * 2 * subjects // (cuts + 1) + 1)
            number += cut_connections(project)
        done = command.wait()
    finally:
        command.end()
    assert done.code == 0, done.text
    assert check_each_ended_once(project, subjects) == {"completed": 2 * subjects}
    extra = server.answered.total() - 2 * subjects
    figures(f"{number} connections cut in {cuts} cuts, exit 0, {extra} answers again")
