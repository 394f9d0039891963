"""``forge-runner``: starts W&B's launch agent, watches it, and tells in JSON lines what happens."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from deploy.runner.agent_process import AgentProcess, Ended, Inbox, Stop
from deploy.runner.events import Events
from deploy.runner.vertex_agent import REGION_VARIABLES
from deploy.runner.watch import Fatal, Watch

ALIVE_SECONDS = 300.0
TICK_SECONDS = 1.0
GRACE_SECONDS = 7.0
"""Cloud Run kills 10 s after it asked."""

Take = Callable[[Inbox, float], str | Ended | Stop | None]


@dataclass(frozen=True, slots=True)
class _Outcome:
    """Why the runner ends, and its exit status."""

    reason: str
    status: int


class Runner:
    """``write`` gets whole lines; ``take`` waits that many seconds for what comes next, else None."""

    def __init__(
        self,
        command: Sequence[str],
        watch: Watch,
        names: dict[str, str],
        write: Callable[[str], None],
        clock: Callable[[], float],
        take: Take,
    ) -> None:
        self.inbox: Inbox = SimpleQueue()
        self._command = command
        self._watch = watch
        self._write = write
        self._clock = clock
        self._take = take
        self._started_at = self._told_at = clock()
        self._kill_at: float | None = None
        self._events = Events(write, lambda: {**names, **self._counters()})

    def run(self) -> int:
        """Until the agent has ended, by itself or told so: the exit status."""
        try:
            agent = AgentProcess(self._command, self.inbox)
        except OSError as error:
            advice = "Build the runner's image anew, or correct the command behind `--`."
            self._tell_fatal(Fatal("", "agent_image", advice, str(error), ()))
            self._events.tell("ended", reason="fatal", exit_code=1)
            return 1
        self._events.tell("started", pid=agent.pid)
        outcome = self._follow(agent)
        self._events.tell("ended", reason=outcome.reason, exit_code=outcome.status)
        return outcome.status

    def _follow(self, agent: AgentProcess) -> _Outcome:
        outcome: _Outcome | None = None
        while True:
            item = self._take(self.inbox, TICK_SECONDS)
            if isinstance(item, Ended):
                for line in agent.last_lines():
                    self._read(line)
                return outcome or self._by_itself(item.status)
            if isinstance(item, str):
                self._read(item)
            elif item is None:
                self._watch.quiet()
            if outcome is None:
                outcome = self._verdict(stopped=isinstance(item, Stop))
                if outcome:
                    agent.stop()
                    self._kill_at = self._clock() + GRACE_SECONDS
                else:
                    self._tell_alive()
            elif self._kill_at is not None and self._clock() >= self._kill_at:
                agent.kill()
                self._kill_at = None

    def _read(self, line: str) -> None:
        self._write(line if line.endswith("\n") else f"{line}\n")
        for job in self._watch.read(line):
            self._events.tell("job", item=job.item)

    def _verdict(self, stopped: bool) -> _Outcome | None:
        """Whether it is time to end the agent, told before it is done."""
        if self._watch.fatal:
            self._tell_fatal(self._watch.fatal)
            return _Outcome("fatal", 1)
        if stopped:
            # A job that still runs on Vertex AI goes on; nobody tells W&B of its end.
            return _Outcome("stopped", 128 + signal.SIGTERM if self._watch.running else 0)
        if self._watch.is_idle:
            self._events.tell("idle", idle_seconds=round(self._watch.idle_seconds))
            return _Outcome("idle", 0)
        return None

    def _by_itself(self, status: int) -> _Outcome:
        """The agent ended and nobody told it to."""
        self._watch.quiet()
        if self._watch.fatal is None and status == 0:
            return _Outcome("agent_ended", 0)
        fatal = self._watch.fatal or self._watch.last_words(status)
        self._tell_fatal(fatal, agent_exit_code=status)
        # A signal's number as a shell tells it.
        return _Outcome("agent_ended", 128 - status if status < 0 else status or 1)

    def _tell_fatal(self, fatal: Fatal, **fields: Any) -> None:
        self._events.tell(
            "fatal",
            severity="ERROR",
            id=fatal.id,
            **{"class": fatal.error_class},
            advice=fatal.advice,
            line=fatal.line,
            matches=list(fatal.matches),
            tail=list(self._watch.tail),
            **fields,
        )

    def _tell_alive(self) -> None:
        if self._clock() - self._told_at >= ALIVE_SECONDS:
            self._told_at = self._clock()
            self._events.tell("alive", idle_seconds=round(self._watch.idle_seconds))

    def _counters(self) -> dict[str, float]:
        return {
            "runs": self._watch.runs,
            "running": self._watch.running,
            "lifetime_seconds": round(self._clock() - self._started_at, 1),
        }


def take(inbox: Inbox, seconds: float) -> str | Ended | Stop | None:
    try:
        return inbox.get(timeout=seconds)
    except Empty:
        return None


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    # What stands behind is run as the agent.
    end = given.index("--") if "--" in given else len(given)
    options = _parser().parse_args(given[:end])
    if options.region:
        os.environ[REGION_VARIABLES[0]] = options.region
    watch = Watch(options.idle_stop, time.monotonic)
    names = {"queue": options.queue, "entity": options.entity}
    command = given[end + 1 :] or _agent(options)
    runner = Runner(command, watch, names, _print, time.monotonic, take)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: runner.inbox.put(Stop()))
    return runner.run()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="forge-runner",
        description="Serve a W&B Launch queue; what stands behind `--` is run as the agent instead.",
    )
    parser.add_argument("-q", "--queue", required=True)
    parser.add_argument("-e", "--entity", required=True)
    parser.add_argument("--region", help=f"where jobs run; default {REGION_VARIABLES[0]}")
    parser.add_argument("--max-jobs", type=int, default=-1, help="at a time; -1: no limit")
    parser.add_argument("--idle-stop", type=float, default=1800.0, metavar="SECONDS")
    return parser


def _agent(options: argparse.Namespace) -> list[str]:
    module = [sys.executable, "-m", "deploy.runner.vertex_agent"]
    limit = f"--max-jobs={options.max_jobs}"
    return [*module, "--queue", options.queue, "--entity", options.entity, limit]


def _print(line: str) -> None:
    sys.stdout.write(line)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
