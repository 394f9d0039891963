"""What the runner told of itself in its log: our runner's JSON lines, or the older one's text marks."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forge_assets.launches.catalogue import classify
from resources.cloud.log_entry import LogEntry

LINES_BEFORE = 20
LINES_AFTER = 80
TAIL_LINES = 100
_TOO_MANY = 1e12
"""No runner has counted so far; nor is NaN a count."""

_PREFIX = re.compile(r"^wandb:(?: (?:ERROR|WARNING)\b)? ?")
_RUNS = (
    re.compile(r"\bruns:\s*(\d+)", re.IGNORECASE),
    re.compile(r"\brunner completed (\d+) runs?\b", re.IGNORECASE),
)
_COMPLETED = _RUNS[1]
_RECEIVED = re.compile(r"\breceived job:?\s*(\S*)\s*$", re.IGNORECASE)
_ITEM = re.compile(r"'runQueueItemId': '([^']+)'")
_RUNNING = re.compile(r"\brunning (\d+) out of a maximum\b", re.IGNORECASE)
# A headline begins with the word, behind whatever ornament; "checking for fatal errors" does not.
_FATAL = re.compile(r"^[^A-Za-z]*(?:ERROR\W+)?FATAL\b")
_FATAL_IN_ANY_CASE = re.compile(_FATAL.pattern, re.IGNORECASE)
_KILLING = re.compile(r"\bkilling\b.{0,20}\bagent\b\W*(.*)", re.IGNORECASE)

_ENDS = {"stopped": "Stopped after", "agent_ended": "Agent ended after"}
"""Reason of our runner -> words before the count of jobs."""


@dataclass(frozen=True, slots=True)
class Fatal:
    """Why the runner ended its agent. ``id``: of the catalogue, empty when it knows no such cause.

    ``tail``: the agent's last lines before; of the older wrapper, those from its mark on.
    """

    id: str
    advice: str
    line: str
    tail: Sequence[str]


@dataclass(frozen=True, slots=True)
class RunnerReport:
    """``runs``: jobs received so far, None when not told. ``note``: how it ended, "" before it said so."""

    runs: int | None
    note: str = ""
    fatal: Fatal | None = None


def read_report(entries: Sequence[LogEntry]) -> RunnerReport:
    """Of one execution's entries, in any order."""
    ordered = sorted(entries, key=lambda entry: (entry.at, entry.insert_id))
    events = [event for entry in ordered if (event := _event(entry.text)) is not None]
    return _of_events(events) if events else _of_lines(_plain(ordered))


def _event(text: str) -> Mapping[str, Any] | None:
    """One line of our runner, whether it came as text or as fields."""
    if '"forge_runner"' not in text:
        return None
    try:
        fields = json.loads(text)
    except ValueError:
        return None
    return fields if isinstance(fields, dict) and "forge_runner" in fields else None


def _of_events(events: Sequence[Mapping[str, Any]]) -> RunnerReport:
    runs = int(max(_numbers(events, "runs"), default=0))
    told = next((event for event in events if event.get("event") == "fatal"), None)
    fatal = _fatal(told) if told else None
    last = next((event for event in reversed(events) if event.get("event") == "ended"), None)
    if fatal or last is None:
        return RunnerReport(runs, fatal.line if fatal else "", fatal)
    words = _ENDS.get(str(last.get("reason", "")))
    return RunnerReport(runs, f"{words} {_jobs(runs)}" if words else completed(runs))


def completed(runs: int | None) -> str:
    """How one ended that did all its work."""
    return "Completed" if runs is None else f"Completed: {_jobs(runs)}"


def _jobs(runs: int) -> str:
    return f"{runs} job" if runs == 1 else f"{runs} jobs"


def _fatal(event: Mapping[str, Any]) -> Fatal:
    def text(name: str) -> str:
        return str(event.get(name) or "")

    held = event.get("tail")
    tail = tuple(str(line) for line in held) if isinstance(held, list) else ()
    return Fatal(text("id"), text("advice"), text("line"), tail)


def _numbers(events: Iterable[Mapping[str, Any]], name: str) -> list[float]:
    """Cloud Logging gives every number as a float."""
    held = (event.get(name) for event in events)
    return [value for value in held if isinstance(value, int | float) and 0 <= value < _TOO_MANY]


def _plain(entries: Iterable[LogEntry]) -> list[str]:
    """Line by line, without the agent's prefix."""
    return [_PREFIX.sub("", line) for entry in entries for line in entry.text.splitlines()]


def _of_lines(lines: Sequence[str]) -> RunnerReport:
    runs = _runs(lines)
    fatal = _marked(lines)
    if fatal:
        return RunnerReport(runs, fatal.line, fatal)
    ended = any(_COMPLETED.search(line) for line in lines)
    return RunnerReport(runs, completed(runs) if ended else "")


def _runs(lines: Sequence[str]) -> int | None:
    """The highest that any line tells: counters go up, and a long log is read from its end only."""
    told = [int(found.group(1)) for line in lines for mark in _RUNS if (found := mark.search(line))]
    told += [int(found.group(1)) for line in lines if (found := _RUNNING.search(line))]
    items = {found.group(1) for line in lines if (found := _ITEM.search(line))}
    received = [found.group(1) for line in lines if (found := _RECEIVED.search(line))]
    # The agent prints the item behind its own line; where it does not, each line is a job.
    items |= {item for item in received if item}
    told += [len(items)] if items else [len(received)] if received else []
    return max(told, default=None)


def _marked(lines: Sequence[str]) -> Fatal | None:
    """The fault around the mark of the older wrapper: the API's own words before the headline."""
    # "fatal: not a git repository" is none, unless the agent was killed.
    killed = any(_KILLING.search(line) for line in lines)
    headline = _FATAL_IN_ANY_CASE if killed else _FATAL
    marks = [n for n, line in enumerate(lines) if headline.match(line) or _KILLING.search(line)]
    if not marks:
        return None
    around = lines[max(0, marks[0] - LINES_BEFORE) : marks[0] + LINES_AFTER + 1]
    window = list(_without_descriptions(around))
    tail = tuple(lines[marks[0] : marks[0] + TAIL_LINES])
    cause = classify("\n".join(window))
    if cause is None:
        return Fatal("", "", _headline(lines, marks), tail)
    return Fatal(cause.entry.id, cause.entry.advice, cause.line, tail)


def _without_descriptions(lines: Iterable[str]) -> Iterator[str]:
    """What a user wrote into a job has not happened: the agent prints it all."""
    described = False
    for line in lines:
        described = described and line.startswith(("{", " "))
        if not described:
            yield line
        described = described or _RECEIVED.search(line) is not None


def _headline(lines: Sequence[str], marks: Sequence[int]) -> str:
    """The reason with which the agent was killed, else the line with the mark."""
    for mark in marks:
        found = _KILLING.search(lines[mark])
        if found and found.group(1).strip():
            return found.group(1).strip()
    return lines[marks[0]].strip()
