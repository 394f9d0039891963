"""Several workers on one stage, in one process and in several: each interaction once, and more a second."""

import time

import pytest

from tests.chaos.conftest import Figures, MakeProject
from tests.chaos.stage_check import RUN, check_each_ended_once, run_stage, served
from tests.chaos.stub_server import StubServer
from tests.chat_server import Reply
from tests.pipeline.project import SMALL, Project

STAGE = "canary-10"
STRAGGLERS = 20
"""One answer in so many takes long."""


def shares(project: Project) -> dict[str, int]:
    """Interactions that ended, by the run or worker that made them."""
    rows = project.query(
        "SELECT run_id, count(*) AS number FROM forge.interaction_events"
        " WHERE kind = 'completed' GROUP BY run_id"
    )
    return {str(row["run_id"]): int(row["number"]) for row in rows}


def uneven(prompt: str, times: int) -> Reply:
    return Reply(seconds=3.0 if sum(prompt.encode()) % STRAGGLERS == 0 else 0.05)


def work(project: Project, workers: int) -> float:
    """Seconds from the first claim to the last commit of one run."""
    ended = project.forge(*run_stage(STAGE), "--workers", str(workers))
    assert ended.code == 0, ended.text
    return float(
        project.scalar(
            "SELECT extract(epoch FROM max(last_commit) - min(first_claim)) FROM forge.runs"
        )
    )


def test_four_workers_of_one_run(
    database: str, server: StubServer, make_project: MakeProject
) -> None:
    server.seconds = 0.2
    project = make_project(database, server, {STAGE: 60})
    project.configure(models={SMALL: served(server, max_batch=4)})
    ended = project.forge(*run_stage(STAGE), "--workers", "4")
    assert ended.code == 0, ended.text
    assert check_each_ended_once(project, 60) == {"completed": 120}
    assert len(shares(project)) == 4
    assert server.answered.total() == 120
    assert server.most_at_once <= 4
    states = project.query("SELECT DISTINCT state FROM forge.runs")
    assert [row["state"] for row in states] == ["finished"]


def test_a_stage_may_set_its_own_number(
    database: str, server: StubServer, make_project: MakeProject
) -> None:
    server.seconds = 0.2
    project = make_project(database, server, {STAGE: 30})
    stages = [{"key": STAGE, "subjects": 30, "workers": 2}]
    project.configure(models={SMALL: served(server, max_batch=2)}, stages=stages)
    ended = project.forge(*run_stage(STAGE))
    assert ended.code == 0, ended.text
    assert len(shares(project)) == 2


def test_another_shell_joins_a_stage(
    database: str, server: StubServer, make_project: MakeProject
) -> None:
    server.seconds = 1.0
    project = make_project(database, server, {STAGE: 40})
    project.configure(models={SMALL: served(server, max_batch=4)})
    run = project.start(RUN, *run_stage(STAGE))
    joined = project.start(RUN, "work", "--stage", STAGE, "--json")
    try:
        here, there = run.wait(), joined.wait()
    finally:
        run.end()
        joined.end()
    assert (here.code, there.code) == (0, 0), here.text + there.text
    assert check_each_ended_once(project, 40) == {"completed": 80}
    assert server.answered.total() == 80
    made = {run_id: number for run_id, number in shares(project).items() if "work" in run_id}
    assert sum(made.values()) == there.data["ended"] > 0
    assert there.data["left"] == 0
    assert project.stage(STAGE)["verdict"] == "passed"


def test_work_alone_leaves_the_checks_to_a_run(
    database: str, server: StubServer, make_project: MakeProject
) -> None:
    project = make_project(database, server, {STAGE: 5})
    joined = project.forge("work", "--stage", STAGE)
    assert joined.code == 0, joined.text
    assert "10 interactions ended here, 0 are left" in joined.out
    assert project.scalar("SELECT count(*) FROM forge.runs WHERE state = 'finished'") == 5
    ended = project.forge(*run_stage(STAGE), "--json")
    assert ended.code == 0, ended.text
    assert server.answered.total() == 10


@pytest.mark.chaos
def test_ten_thousand_interactions_by_four_workers(
    database: str, server: StubServer, make_project: MakeProject, figures: Figures
) -> None:
    project = make_project(database, server, {STAGE: 5000})
    seconds = work(project, 4)
    assert check_each_ended_once(project, 5000) == {"completed": 10_000}
    figures(
        f"10,000 interactions in {seconds:.1f} s = {10_000 / seconds:.0f} a second, shares"
        f" {sorted(shares(project).values())}, answers made twice"
        f" {server.answered.total() - 10_000}"
    )
    assert server.answered.total() == 10_000


@pytest.mark.chaos
def test_more_workers_end_sooner_where_answers_differ(
    postgres_server: object, database: str, make_project: MakeProject, figures: Figures
) -> None:
    subjects = 400
    seconds = {}
    for workers in (1, 4):
        with StubServer(uneven) as server:
            project = make_project(database, server, {STAGE: subjects})
            project.execute("TRUNCATE forge.subjects, forge.runs CASCADE")
            seconds[workers] = work(project, workers)
            check_each_ended_once(project, subjects)
    figures(f"1 worker {seconds[1]:.1f} s, 4 workers {seconds[4]:.1f} s")
    assert seconds[4] < seconds[1]


@pytest.mark.chaos
def test_three_processes_end_sooner_than_one(
    database: str, make_project: MakeProject, figures: Figures
) -> None:
    subjects = 400
    seconds = {}
    for processes in (1, 3):
        with StubServer(seconds=0.5) as server:
            project = make_project(database, server, {STAGE: subjects})
            project.execute("TRUNCATE forge.subjects, forge.runs CASCADE")
            project.configure(models={SMALL: served(server, max_batch=8)})
            began = time.monotonic()
            commands = [project.start(RUN, *run_stage(STAGE), "--workers", "1")]
            commands += [
                project.start(RUN, "work", "--stage", STAGE, "--workers", "1")
                for _ in range(processes - 1)
            ]
            codes = [command.wait().code for command in commands]
            seconds[processes] = time.monotonic() - began
            assert codes == [0] * processes
            check_each_ended_once(project, subjects)
    figures(f"1 process {seconds[1]:.1f} s, 3 processes {seconds[3]:.1f} s, start-up included")
    assert seconds[3] < seconds[1]
