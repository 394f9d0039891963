"""kill -9 and SIGTERM at any moment: the same command again ends the stage, nothing lost, nothing twice."""

import random
import signal
import time
from dataclasses import dataclass, field
from functools import partial

import pytest

from resources.interaction import SUSPECT_LOSSES
from tests.chaos.conftest import Figures, MakeProject
from tests.chaos.stage_check import (
    RUN,
    STAGES,
    STEPS,
    check_each_ended_once,
    ended,
    run_stage,
    running,
)
from tests.chaos.stub_server import StubServer
from tests.pipeline.project import Command, Project

SEED = 20
KILLS = {"canary-10": 3, "ramp-50": 4, "full-500": 13}
ANSWER_SECONDS = 0.15
POLL_SECONDS = 0.005
EARLY_KILLS = 7


@dataclass
class Kills:
    """Kills one stage's command again and again, and keeps what each kill met."""

    project: Project
    server: StubServer
    dice: random.Random
    starting: int = 0
    """Kills before the run had asked the server for anything."""
    in_flight: list[int] = field(default_factory=list)
    """Requests at the server at each of the other kills."""
    claimed: list[int] = field(default_factory=list)
    """Rows in work that each of them left behind."""
    start_seconds: float = 0.0
    """From the start of the last command to its first request."""

    @property
    def number(self) -> int:
        return self.starting + len(self.in_flight)

    def kill(self, stage: str, in_work: bool, most: int) -> bool:
        """Starts the stage and kills it; False when it ended before.

        ``in_work``: after one to ``most`` new requests, else at a random moment of the start.
        """
        asked, began = self.server.asked.total(), time.monotonic()
        target = asked + self.dice.randint(1, most) if in_work else 2**31
        moment = began + (600 if in_work else self.dice.uniform(0, self.start_seconds or 3))
        more = self.dice.uniform(0, 2 * ANSWER_SECONDS) if in_work else 0.0
        command = self.project.start(RUN, *run_stage(stage))
        try:
            while self.server.asked.total() < target and time.monotonic() < moment:
                if command.process.poll() is not None:
                    assert command.process.returncode == 0, command.text
                    return False
                if in_work and self.server.asked.total() == asked:
                    self.start_seconds = time.monotonic() - began
                time.sleep(POLL_SECONDS)
            time.sleep(more)
            command.send(signal.SIGKILL)
            now = self.server.now
            command.process.wait()
        finally:
            command.end()
        if self.server.asked.total() == asked:
            self.starting += 1
        else:
            self.in_flight.append(now)
            self.claimed.append(running(self.project))
        return True


def finish(project: Project, stage: str) -> None:
    done = project.forge(*run_stage(stage))
    assert done.code == 0, done.text


@pytest.mark.chaos
@pytest.mark.timeout(1500)
def test_twenty_kills_in_a_row(
    database: str, server: StubServer, make_project: MakeProject, figures: Figures
) -> None:
    server.seconds = ANSWER_SECONDS
    project = make_project(database, server, STAGES)
    kills = Kills(project, server, random.Random(SEED))
    owed = 0
    for stage, number in KILLS.items():
        owed += number
        size = len(STEPS) * STAGES[stage]
        while owed:
            # Two of three in the middle of work, and never so much work that nothing is left for the next.
            in_work = kills.number % 3 != 1
            if not kills.kill(stage, in_work, max(1, size // (number + 2))):
                break
            owed -= 1
        finish(project, stage)
    assert owed == 0
    one_pass = len(STEPS) * sum(STAGES.values())
    extra = server.answered.total() - one_pass
    lost_often = project.scalar(
        "SELECT count(*) FROM (SELECT interaction_id FROM forge.interaction_events"
        " WHERE kind = 'reclaimed' GROUP BY interaction_id HAVING count(*) >= :losses) AS often",
        losses=SUSPECT_LOSSES,
    )
    per_answer = server.tokens / server.answered.total()
    figures(
        f"{kills.number} kills ({kills.starting} while starting); one pass {one_pass} answers,"
        f" {server.asked.total()} asked, {server.answered.total()} answered, {extra} of them made"
        f" again ({extra * per_answer:.0f} of {server.tokens} tokens); at a kill at most"
        f" {max(kills.in_flight)} requests in flight and {max(kills.claimed)} rows claimed;"
        f" {lost_often} interactions were lost {SUSPECT_LOSSES} times or more;"
        f" at most {server.most_at_once} at once; start {kills.start_seconds:.1f} s"
    )
    assert check_each_ended_once(project, sum(STAGES.values())) == {"completed": one_pass}
    assert set(server.answered) == set(server.asked), "every prompt was answered"
    # One pass and one batch for each kill; a batch of a server is what it has at once.
    assert extra <= kills.number * server.most_at_once
    assert server.asked.total() <= one_pass + kills.number * server.most_at_once
    assert [project.stage(stage)["verdict"] for stage in STAGES] == ["passed"] * len(STAGES)
    assert running(project) == 0


@pytest.mark.chaos
def test_kills_before_any_answer(
    database: str, server: StubServer, make_project: MakeProject, figures: Figures
) -> None:
    """Every kill meets the same rows: they are blamed for what they did not do, and must not fail."""
    server.seconds = 600
    project = make_project(database, server, {"canary-10": 10})
    for _ in range(EARLY_KILLS):
        asked = server.asked.total()
        command = project.start(RUN, *run_stage("canary-10"))
        try:
            command.until(partial(more_asked, server, asked), "a request at the server")
        finally:
            command.end()
    server.seconds = 0.0
    finish(project, "canary-10")
    worst = project.scalar(
        "SELECT max(number) FROM (SELECT count(*) AS number FROM forge.interaction_events"
        " WHERE kind = 'reclaimed' GROUP BY interaction_id) AS lost"
    )
    figures(f"{EARLY_KILLS} kills, one interaction lost {worst} times, ended {project.counts()}")
    assert check_each_ended_once(project, 10) == {"completed": 20}


def more_asked(server: StubServer, number: int) -> bool:
    return server.asked.total() > number


def test_two_kills(
    database: str, server: StubServer, make_project: MakeProject, figures: Figures
) -> None:
    """The short form: one in the start, one in the middle of work."""
    server.seconds = ANSWER_SECONDS
    stages = {"canary-10": 60}
    project = make_project(database, server, stages)
    kills = Kills(project, server, random.Random(SEED))
    assert kills.kill("canary-10", False, 1)
    assert kills.kill("canary-10", True, 60)
    finish(project, "canary-10")
    assert check_each_ended_once(project, 60) == {"completed": 120}
    extra = server.answered.total() - 120
    figures(f"{kills.number} kills, {extra} of 120 answers made again")
    assert server.asked.total() <= 120 + kills.number * server.most_at_once


def until_in_work(command: Command, project: Project, server: StubServer) -> None:
    command.until(lambda: ended(project) and server.now, "some committed and some in flight")


def test_sigterm_in_the_middle_of_work(
    database: str, server: StubServer, make_project: MakeProject, figures: Figures
) -> None:
    server.seconds = 0.5
    project = make_project(database, server, {"canary-10": 60})
    command = project.start(RUN, *run_stage("canary-10"))
    try:
        until_in_work(command, project, server)
        command.send(signal.SIGTERM)
        began = time.monotonic()
        stopped = command.wait()
        seconds = time.monotonic() - began
    finally:
        command.end()
    assert stopped.code not in (0, -signal.SIGTERM), stopped.text
    assert "Traceback" not in stopped.text
    assert running(project) == 0, "the claims were handed back"
    assert project.scalar("SELECT max(losses) FROM forge.interactions") == 0
    done = ended(project)
    figures(f"ended {seconds:.1f} s after SIGTERM with {done} of 120 done, exit {stopped.code}")
    assert seconds < 10
    server.seconds = 0.0
    finish(project, "canary-10")
    assert check_each_ended_once(project, 60) == {"completed": 120}
