"""The wrapper with real agents: small programs that print what wandb prints, on a clock set by hand."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from deploy.runner.agent_process import Ended, Inbox, Stop
from deploy.runner.forge_runner import ALIVE_SECONDS, GRACE_SECONDS, Runner
from deploy.runner.watch import Watch
from tests.deploy.agent_lines import FINISHED, RUNNING_NONE, job_error, received
from tests.wire.clock import HandClock

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 60
MACHINE = '400 Machine type "a3-highgpu-1g" is not supported.'

READY = "ready"
WAIT = "import signal\nsignal.pause()"
DEAF = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
POLITE = "import signal\nsignal.signal(signal.SIGTERM, lambda *_: exit(print('told to end')))\n"


def agent(lines: list[str], then: str = WAIT, before: str = "") -> list[str]:
    """A program that prints them, says that it is ready, and goes on."""
    program = f"{before}\nfor line in {[*lines, READY]!r}: print(line, flush=True)\n{then}"
    return [sys.executable, "-c", program]


class Bench:
    """A runner on one agent.

    ``silent_after``: the line that the agent prints last; when it has been read, time goes on by
    hand. Without one, and while an agent that was told to end does so, the runner waits for it.
    """

    def __init__(self, command: list[str], silent_after: str | None = None) -> None:
        self.written: list[str] = []
        self.clock = HandClock()
        self.waits_for_end = True
        self.is_stopped_when_ready = False
        self._silent_after = silent_after
        watch = Watch(1800, self.seconds)
        names = {"queue": "q", "entity": "team"}
        self.runner = Runner(command, watch, names, self.write, self.seconds, self.take)

    def seconds(self) -> float:
        return self.clock().timestamp()

    def write(self, line: str) -> None:
        assert line.endswith("\n")
        self.written.append(line.removesuffix("\n"))
        if line == f"{READY}\n" and self.is_stopped_when_ready:
            self.runner.inbox.put(Stop())

    def take(self, inbox: Inbox, seconds: float) -> str | Ended | Stop | None:
        is_ending = bool({"fatal", "idle"} & set(self.told()))
        is_silent = self._silent_after in self.written
        if not inbox.empty() or not is_silent or (is_ending and self.waits_for_end):
            return inbox.get(timeout=PATIENCE_SECONDS)
        self.clock.forward(seconds)
        return None

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.written if line.startswith('{"forge_runner"')]

    def told(self) -> list[str]:
        return [event["event"] for event in self.events()]

    def event(self, name: str) -> dict[str, Any]:
        (found,) = (event for event in self.events() if event["event"] == name)
        return found


def test_it_passes_on_and_tells_what_happened() -> None:
    lines = ["to stdout", RUNNING_NONE, *received("a"), *received("b"), FINISHED]
    bench = Bench(agent(lines, "import sys\nprint('last', file=sys.stderr)"))
    assert bench.runner.run() == 0
    assert [line for line in bench.written if line in lines] == lines
    assert "last" in bench.written
    assert bench.told() == ["started", "job", "job", "ended"]
    ended = bench.event("ended")
    assert (ended["runs"], ended["queue"], ended["entity"]) == (2, "q", "team")
    assert (ended["reason"], ended["exit_code"]) == ("agent_ended", 0)


def test_its_number_is_the_agents_own() -> None:
    bench = Bench([sys.executable, "-c", "import os; print('I am', os.getpid())"])
    bench.runner.run()
    assert f"I am {bench.event('started')['pid']}" in bench.written


def test_a_fatal_error_is_told_and_ends_the_agent() -> None:
    bench = Bench(agent([*received("a"), *job_error(MACHINE), RUNNING_NONE], before=POLITE))
    assert bench.runner.run() == 1
    fatal = bench.event("fatal")
    assert (fatal["id"], fatal["class"], fatal["severity"]) == ("V03", "config", "ERROR")
    assert fatal["advice"].startswith("Take a machine type")
    assert fatal["line"] == MACHINE
    assert fatal["matches"] == [MACHINE]
    assert f"wandb: ERROR {MACHINE}" in fatal["tail"]
    assert "told to end" in bench.written
    assert bench.told()[-1] == "ended"
    assert bench.event("ended")["reason"] == "fatal"


def test_a_traceback_that_ends_the_output_is_seen_once_it_is_quiet() -> None:
    lines = job_error(MACHINE)
    printing = f"for line in {lines!r}: print(line, flush=True)\n{WAIT}"
    bench = Bench(agent([], printing), silent_after=lines[-1])
    assert bench.runner.run() == 1
    assert bench.event("fatal")["id"] == "V03"


def test_an_agent_deaf_to_the_signal_is_killed_after_the_grace() -> None:
    bench = Bench(agent(job_error(MACHINE), before=DEAF), silent_after=READY)
    bench.waits_for_end = False
    assert bench.runner.run() == 1
    assert bench.event("ended")["lifetime_seconds"] >= GRACE_SECONDS


@pytest.mark.parametrize(
    ("then", "code"), [("exit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 137)]
)
def test_an_agent_that_ends_by_itself_is_told_with_its_tail(then: str, code: int) -> None:
    bench = Bench(agent([*received("a"), "some last words"], then))
    assert bench.runner.run() == code
    fatal, ended = bench.event("fatal"), bench.event("ended")
    assert fatal["class"] == "agent_exit"
    assert fatal["agent_exit_code"] in (code, 128 - code)
    assert fatal["tail"][-2:] == ["some last words", READY]
    assert (ended["runs"], ended["exit_code"], ended["reason"]) == (1, code, "agent_ended")


def test_a_known_reason_of_its_end_is_told() -> None:
    words = "wandb: ERROR LaunchError: it requires the google-cloud-compute package to be installed"
    bench = Bench([sys.executable, "-c", f"print({words!r}); exit(1)"])
    assert bench.runner.run() == 1
    assert (bench.event("fatal")["id"], bench.told()) == ("W09", ["started", "fatal", "ended"])


def test_an_agent_that_cannot_start() -> None:
    bench = Bench(["/nowhere/agent"])
    assert bench.runner.run() == 1
    assert bench.told() == ["fatal", "ended"]
    assert "/nowhere/agent" in bench.event("fatal")["line"]


def test_a_helper_that_outlives_the_agent_holds_nobody_up() -> None:
    helper = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {WAIT!r}])"
    bench = Bench([sys.executable, "-c", f"{helper}\nprint('gone', flush=True)"])
    assert bench.runner.run() == 0
    assert bench.told() == ["started", "ended"]


def test_idle_for_half_an_hour_it_ends_with_zero_and_lives_aloud() -> None:
    lines = [RUNNING_NONE, *received("a"), FINISHED]
    bench = Bench(agent(lines, before=POLITE), silent_after=READY)
    assert bench.runner.run() == 0
    assert bench.told() == ["started", "job", *["alive"] * 5, "idle", "ended"]
    assert "told to end" in bench.written
    alive = [event["lifetime_seconds"] for event in bench.events() if event["event"] == "alive"]
    assert alive == [ALIVE_SECONDS * n for n in range(1, 6)]
    assert bench.event("idle")["runs"] == bench.event("ended")["runs"] == 1
    assert bench.event("ended")["lifetime_seconds"] >= 1800


@pytest.mark.parametrize(("lines", "code"), [([], 0), (received("a"), 143)])
def test_told_to_stop(lines: list[str], code: int) -> None:
    bench = Bench(agent(lines, before=POLITE))
    bench.is_stopped_when_ready = True
    assert bench.runner.run() == code
    assert "told to end" in bench.written
    assert (bench.event("ended")["reason"], bench.event("ended")["exit_code"]) == ("stopped", code)


def test_the_command_and_a_real_signal() -> None:
    given = ["--queue", "q", "--entity", "team", "--idle-stop", "60", "--", *agent(received("a"))]
    command = [sys.executable, "-m", "deploy.runner.forge_runner", *given]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as runner:
        guard = threading.Timer(PATIENCE_SECONDS, runner.kill)
        guard.start()
        assert runner.stdout
        lines = []
        for line in runner.stdout:
            lines.append(line)
            if line.strip() == READY:
                runner.send_signal(signal.SIGTERM)
        guard.cancel()
    ended = json.loads(lines[-1])
    assert (ended["event"], ended["reason"], ended["runs"]) == ("ended", "stopped", 1)
    assert runner.returncode == 143
