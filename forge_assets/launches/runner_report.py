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
_LIFETIME = re.compile(
    r"\blifetime:?\s*(?=\d)(?:(\d+)\s*d\s*)?(?:(\d+)\s*h\s*)?(?:(\d+)\s*m(?:in)?\s*)?"
    r"(?:(\d+)(?:\.\d+)?\s*s?)?(?![:.\w])",
    re.IGNORECASE,
)
_RECEIVED = re.compile(r"\breceived job:?\s*(\S*)\s*$", re.IGNORECASE)
_ITEM = re.compile(r"'runQueueItemId': '([^']+)'")
_RUNNING = re.compile(r"\brunning (\d+) out of a maximum\b", re.IGNORECASE)
# A headline begins with the word, behind whatever ornament; "checking for fatal errors" does not.
_FATAL = re.compile(r"^[^A-Za-z]*(?:ERROR\W+)?FATAL\b")
_FATAL_IN_ANY_CASE = re.compile(_FATAL.pattern, re.IGNORECASE)
_KILLING = re.compile(r"\bkilling\b.{0,20}\bagent\b\W*(.*)", re.IGNORECASE)

_ENDS = {"stopped": "stopped after", "agent_ended": "its agent ended after"}
"""Reason of our runner -> words before the count of runs."""


@dataclass(frozen=True, slots=True)
class Fatal:
    """Why the runner ended its agent. ``id``: of the catalogue, empty when it knows no such cause."""

    id: str
    error_class: str
    advice: str
    line: str
    matches: Sequence[str]
    tail: Sequence[str]


@dataclass(frozen=True, slots=True)
class RunnerReport:
    """None: not told. ``runs``: jobs received so far; ``ended``: it closed its log itself."""

    runs: int | None
    lifetime_seconds: float | None
    ended: bool
    fatal: Fatal | None
    note: str


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
    return RunnerReport(
        runs=runs,
        lifetime_seconds=max(_numbers(events, "lifetime_seconds"), default=None),
        ended=last is not None,
        fatal=fatal,
        note=_note(runs, last is not None, fatal, str(last.get("reason", "")) if last else ""),
    )


def _fatal(event: Mapping[str, Any]) -> Fatal:
    def text(name: str) -> str:
        return str(event.get(name) or "")

    def texts(name: str) -> Sequence[str]:
        held = event.get(name)
        return tuple(str(line) for line in held) if isinstance(held, list) else ()

    return Fatal(
        text("id"), text("class"), text("advice"), text("line"), texts("matches"), texts("tail")
    )


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
    completed = any(_COMPLETED.search(line) for line in lines)
    ended = completed or any(_KILLING.search(line) for line in lines)
    lifetimes = [_seconds(found) for line in lines if (found := _LIFETIME.search(line))]
    return RunnerReport(
        runs=runs,
        lifetime_seconds=max(lifetimes, default=None),
        ended=ended,
        fatal=fatal,
        note=_note(runs, ended, fatal, ""),
    )


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
        return Fatal("", "unknown", "", _headline(lines, marks), (), tail)
    entry = cause.entry
    matches = tuple(line for line in window if entry.regex.search(line))
    return Fatal(entry.id, entry.error_class, entry.advice, cause.line, matches, tail)


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


def _seconds(found: re.Match[str]) -> float:
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def _note(runs: int | None, ended: bool, fatal: Fatal | None, reason: str) -> str:
    """For a table's cell."""
    if fatal:
        return fatal.line
    if runs is None:
        return "completed" if ended else ""
    jobs = f"{runs} run" if runs == 1 else f"{runs} runs"
    if not ended:
        return f"running, {jobs} so far"
    return f"{_ENDS.get(reason, 'completed')} {jobs}"
