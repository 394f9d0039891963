"""Judges an agent by what it prints and when: fatal, idle, or neither."""

import re
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from deploy.runner.agent_log import AgentLog, Block, Job
from deploy.runner.fatal import is_fatal
from forge_assets.launches.catalogue import Cause, classify

TAIL_LINES = 100
REPEATS = 15
REPEATS_WITHIN_SECONDS = 600.0
"""One error unknown to the catalogue, so often and with no job in between, is hopeless too: an agent
that cannot read its queue tells it every 10 s and goes on."""

_NUMBERS = re.compile(r"\b(?=\w*\d)[0-9a-f-]+\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Fatal:
    """``id``: of the catalogue, empty for what it does not know. ``line``: what told it."""

    id: str
    error_class: str
    advice: str
    line: str
    matches: Sequence[str]


class Watch:
    """``idle_seconds``: how long it may run no job and receive none. ``clock``: seconds, monotonic."""

    def __init__(self, idle_seconds: float, clock: Callable[[], float]) -> None:
        self.fatal: Fatal | None = None
        """The first fault that cannot heal; it stays."""
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        """The last lines as printed."""
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._log = AgentLog()
        self._busy_at = clock()
        self._blocks: deque[Block] = deque(maxlen=TAIL_LINES)
        self._errors: deque[tuple[float, str]] = deque()

    @property
    def runs(self) -> int:
        """Distinct jobs received in its life."""
        return len(self._log.items)

    @property
    def running(self) -> int:
        return self._log.running

    def read(self, line: str) -> list[Job]:
        """The jobs that this line tells for the first time."""
        self.tail.append(line.rstrip("\r\n"))
        jobs = []
        for told in self._log.read(line):
            if isinstance(told, Job):
                jobs.append(told)
                self._errors.clear()
            else:
                self._judge(told)
        if jobs or self.running:
            self._busy_at = self._clock()
        return jobs

    def quiet(self) -> None:
        """Nothing more came for a moment: what was printed is complete."""
        for block in self._log.flush():
            self._judge(block)
        if self.running:
            self._busy_at = self._clock()

    @property
    def idle_seconds(self) -> float:
        """Since a job was last running or received."""
        return self._clock() - self._busy_at

    @property
    def is_idle(self) -> bool:
        return self.idle_seconds >= self._idle_seconds

    def last_words(self, status: int) -> Fatal:
        """Why the agent ended by itself, as far as it told."""
        for block in reversed(self._blocks):
            cause = classify(block.text)
            if cause and cause.entry.error_class != "user_code":
                return _fatal(cause, self._lines(cause.entry.regex))
        line = next((line for line in reversed(self.tail) if line.strip()), "")
        told = f"The agent ended with status {status}" + (f": {line}" if line else "")
        return Fatal("", "agent_exit", "Read the agent's last lines.", told, ())

    def _judge(self, block: Block) -> None:
        self._blocks.append(block)
        if self.fatal:
            return
        cause = classify(block.text)
        if cause and is_fatal(cause.entry):
            self.fatal = _fatal(cause, self._lines(cause.entry.regex))
        elif block.is_error and (cause is None or cause.entry.retry in ("no", "fix")):
            self._judge_repeats(_last_line(block))

    def _judge_repeats(self, line: str) -> None:
        now = self._clock()
        self._errors.append((now, _NUMBERS.sub("0", line)))
        while now - self._errors[0][0] > REPEATS_WITHIN_SECONDS:
            self._errors.popleft()
        kind, times = Counter(kind for _, kind in self._errors).most_common(1)[0]
        if times >= REPEATS:
            same = tuple(
                found
                for block in self._blocks
                for found in block.lines
                if _NUMBERS.sub("0", found) == kind
            )
            advice = "Read the error that the agent met again and again; it took no job meanwhile."
            self.fatal = Fatal("", "repeated", advice, line, same)

    def _lines(self, pattern: re.Pattern[str]) -> Iterator[str]:
        """Of the last blocks; the description of a job is in none of them."""
        for block in self._blocks:
            yield from (line for line in block.lines if pattern.search(line))


def _fatal(cause: Cause, matches: Iterator[str]) -> Fatal:
    entry = cause.entry
    return Fatal(entry.id, entry.error_class, entry.advice, cause.line, tuple(matches))


def _last_line(block: Block) -> str:
    return next((line for line in reversed(block.lines) if line.strip()), "")
