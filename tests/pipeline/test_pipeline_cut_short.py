"""Runs cut short: the stage is incomplete, no check is evaluated, the same command goes on."""

import signal

import pytest

from tests.pipeline.project import Project, materialization, occurrences
from tests.pipeline.test_pipeline_kill import SUBJECTS, completed, slow, start


@pytest.mark.parametrize(
    ("option", "counts"),
    [
        ("--max-subjects", {"completed": 2, "pending": 4}),
        ("--max-interactions", {"completed": 1, "pending": 5}),
    ],
)
def test_a_limited_run_leaves_the_stage_incomplete(
    project: Project, option: str, counts: dict[str, int]
) -> None:
    ended = project.forge("run", "--stage", "canary-10", option, "1", "--json")
    assert ended.code == 0, ended.text
    assert ended.data["verdict"] == "incomplete"
    assert project.counts() == counts
    assert project.evaluations("canary-10") == []
    assert not project.output.exists()
    gate = project.forge("run", "--stage", "ramp-50")
    assert gate.code == 1, gate.text
    assert occurrences("ramp-50 refused: canary-10 is incomplete", gate.err) == 1
    rest = project.forge("run", "--stage", "canary-10", "--json")
    assert rest.code == 0, rest.text
    assert rest.data["verdict"] == "passed"
    assert project.counts() == {"completed": 6}
    assert project.scalar("SELECT max(claims) FROM forge.interactions") == 1


def test_ctrl_c_hands_the_leases_back(project: Project) -> None:
    slow(project)
    command = project.start("forge_assets.cli.main", "run", "--stage", "canary-10")
    try:
        command.until(lambda: len(completed(project)) >= 2, "two interactions committed")
        command.send(signal.SIGINT)
        ended = command.wait()
    finally:
        command.end()
    assert ended.code == 130, ended.text
    assert "Traceback" not in ended.text
    done = completed(project)
    assert set(project.counts()) == {"completed", "pending"}
    assert project.evaluations("canary-10") == []
    assert set(project.dagster_runs().values()) <= {"CANCELED", "FAILURE"}
    again = project.forge("run", "--stage", "canary-10")
    assert again.code == 0, again.text
    after = {row["id"]: row for row in completed(project)}
    assert len(after) == 2 * SUBJECTS
    assert all(after[row["id"]] == row for row in done)


def test_sigterm_ends_the_dagster_command_in_order(project: Project) -> None:
    slow(project)
    command = start(project)
    try:
        command.until(lambda: len(completed(project)) >= 2, "two interactions committed")
        command.send(signal.SIGTERM)
        ended = command.wait()
    finally:
        command.end()
    assert ended.code not in (0, -signal.SIGTERM), ended.text
    assert set(project.counts()) == {"completed", "pending"}
    assert project.evaluations("canary-10") == []
    assert set(project.dagster_runs().values()) <= {"CANCELED", "FAILURE"}


def test_sigterm_ends_a_run_that_waits(project: Project) -> None:
    """The second stage waits at its gate while the first one runs."""
    slow(project)
    first = start(project)
    try:
        first.until(lambda: len(completed(project)) >= 1, "one interaction committed")
        first.send(signal.SIGSTOP)  # still alive, so the second one waits
        select = '+key:"review/results"'
        second = project.start("dagster", *materialization("ramp-50", select))
        try:
            second.says("ramp-50 waits for canary-10, which run")
            second.send(signal.SIGTERM)
            ended = second.wait()
        finally:
            second.end()
        assert ended.code not in (0, -signal.SIGTERM), ended.text
    finally:
        first.end()
    states = project.query("SELECT state FROM forge.runs WHERE partition = 'ramp-50'")
    assert [row["state"] for row in states] == ["cut_short"]
