"""What a runner told of itself: our JSON lines in either payload, and the marks of the older wrapper."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.runner.events import Events
from forge_assets.launches.runner_report import RunnerReport, read_report
from resources.cloud.log_entry import LogEntry, text_of
from tests.deploy.agent_lines import FINISHED, RUNNING_NONE, RUNNING_ONE, job_error, received
from tests.launches.test_catalogue import HARMLESS

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
MACHINE = '400 Machine type "a3-highgpu-1g" is not supported.'
NOTHING = RunnerReport(None)


def log(lines: Sequence[str]) -> list[LogEntry]:
    return [
        LogEntry(NOON + timedelta(seconds=n), f"{n:06d}", ("stdout",), line)
        for n, line in enumerate(lines)
    ]


class OurRunner:
    """Lines as the wrapper writes them."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.runs = 0
        self.seconds = 0.0
        self._events = Events(self.lines.append, self._common)

    def _common(self) -> dict[str, Any]:
        return {"queue": "q", "runs": self.runs, "lifetime_seconds": self.seconds}

    def tell(self, event: str, runs: int, seconds: float, **fields: Any) -> None:
        self.runs, self.seconds = runs, seconds
        self._events.tell(event, **fields)


def as_fields(line: str) -> str:
    """As Cloud Run hands it to Logging: JSON becomes fields, whose numbers are floats."""
    fields = {
        name: float(value) if isinstance(value, int) else value
        for name, value in json.loads(line).items()
        if name != "severity"
    }
    return text_of(None, fields, None)


@pytest.mark.parametrize("payload", [str, as_fields])
def test_our_own_lines_in_either_payload(payload: Any) -> None:
    ours = OurRunner()
    ours.tell("started", 0, 0.0, pid=7)
    ours.tell("job", 1, 20.5, item="a")
    alive = read_report(log([payload(line) for line in ours.lines]))
    assert alive == RunnerReport(1)
    fault = {"id": "V03", "class": "config", "advice": "Take another.", "line": MACHINE}
    ours.tell("fatal", 2, 60.0, **fault, matches=[MACHINE], tail=["a", "b"])
    ours.tell("ended", 2, 61.0, reason="fatal", exit_code=1)
    report = read_report(log([payload(line) for line in ours.lines]))
    assert (report.runs, report.note) == (2, MACHINE)
    fatal = report.fatal
    assert fatal is not None
    assert (fatal.id, fatal.advice) == ("V03", "Take another.")
    assert (fatal.line, fatal.tail) == (MACHINE, ("a", "b"))


@pytest.mark.parametrize(
    ("reason", "note"),
    [
        ("idle", "Completed: 3 jobs"),
        ("stopped", "Stopped after 3 jobs"),
        ("agent_ended", "Agent ended after 3 jobs"),
    ],
)
def test_how_it_ended(reason: str, note: str) -> None:
    ours = OurRunner()
    ours.tell("ended", 3, 4000.0, reason=reason)
    assert read_report(log(ours.lines)).note == note


def test_our_lines_are_believed_before_what_they_stand_between() -> None:
    ours = OurRunner()
    ours.tell("alive", 1, 300.0)
    lines = ["Runs: 99", "FATAL: x", *ours.lines, *received("a"), *received("b")]
    report = read_report(log(lines))
    assert (report.runs, report.fatal) == (1, None)


def test_the_order_of_the_entries_does_not_matter() -> None:
    ours = OurRunner()
    ours.tell("started", 0, 0.0)
    ours.tell("ended", 5, 50.0, reason="stopped")
    entries = log(ours.lines)
    assert read_report(entries[::-1]) == read_report(entries)


@pytest.mark.parametrize(
    "text",
    ['{"forge_runner": 1', '["forge_runner"]', '"forge_runner"', '{"a": "\\"forge_runner\\""}'],
)
def test_what_only_looks_like_ours(text: str) -> None:
    assert read_report(log([text])) == NOTHING


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["event", "runs", "advice", "tail"]),
        st.one_of(
            st.none(),
            st.sampled_from(["fatal", "ended", "x"]),
            st.lists(st.integers()),
            st.integers(0, 9),
            st.floats(),
        ),
    )
)
def test_strange_fields_are_no_error(fields: dict[str, Any]) -> None:
    read_report(log([json.dumps({"forge_runner": 1, **fields})]))


def test_no_entries_tell_nothing() -> None:
    assert read_report([]) == NOTHING


def test_harmless_lines_tell_no_fault() -> None:
    assert read_report(log(HARMLESS)).fatal is None
    for line in HARMLESS:
        assert read_report(log([line])).fatal is None


@pytest.mark.parametrize(
    ("lines", "runs"),
    [
        (["Runs: 3", "alive", "Runs: 12", "Runs: 4"], 12),
        (["Runner completed 7 runs ✓"], 7),
        (["✗ Runner completed 0 runs"], 0),
        ([RUNNING_NONE], 0),
        ([RUNNING_NONE, RUNNING_ONE], 1),
        (["agent x, running 3 out of a maximum of inf jobs", "received job: a"], 3),
        ([*received("a"), FINISHED, *received("b"), *received("a")], 2),
        (["wandb: launch: agent received job: a", "wandb: launch: agent received job: b"], 2),
        (["Launch agent received job:", "Launch agent received job:"], 2),
        (["polling"], None),
    ],
)
def test_runs_of_the_older_wrapper(lines: list[str], runs: int | None) -> None:
    assert read_report(log(lines)).runs == runs


def test_the_end_of_the_older_wrapper() -> None:
    assert read_report(log(["Runs: 2"])).note == ""
    assert read_report(log(["Runner completed 2 runs"])).note == "Completed: 2 jobs"


BLOCK = [
    "🚨 FATAL ERROR DETECTED: Invalid machine configuration",
    "Trigger: Machine type",
    "Matching lines:",
    f"wandb: ERROR {MACHINE}",
    "Last 100 lines:",
    RUNNING_ONE,
    "🛑 Killing agent: machine type not supported, it never heals",
]


def test_the_api_s_own_words_before_the_headline() -> None:
    report = read_report(log(["Starting runner", *received("a"), *BLOCK]))
    assert report.runs == 1
    assert report.fatal is not None
    assert (report.fatal.id, report.fatal.line) == ("V03", MACHINE)
    assert report.fatal.tail[0] == BLOCK[0]
    assert report.note == MACHINE


@pytest.mark.parametrize("before", [0, 19])
def test_the_cause_may_stand_before_the_mark(before: int) -> None:
    lines = [*job_error(MACHINE), *["noise"] * (before - 1), "fatal error found", "killing agent"]
    report = read_report(log(lines))
    assert report.fatal is not None
    assert report.fatal.id == "V03"


def test_what_stands_far_from_the_mark_is_not_its_cause() -> None:
    far = [*job_error(MACHINE), *["noise"] * 30, "FATAL", *["noise"] * 90, *job_error(MACHINE)]
    report = read_report(log(far))
    assert report.fatal is not None
    assert (report.fatal.id, report.fatal.line) == ("", "FATAL")


def test_a_reason_that_the_catalogue_does_not_know() -> None:
    report = read_report(
        log(["*** FATAL: broken", "oops", "Killing wandb agent - too many oopses"])
    )
    assert report.fatal is not None
    assert (report.fatal.id, report.fatal.line) == ("", "too many oopses")


def test_what_a_user_wrote_into_a_job_is_no_cause() -> None:
    report = read_report(log([*received("a", MACHINE), "FATAL: broken"]))
    assert report.fatal is not None
    assert report.fatal.id == ""


@pytest.mark.parametrize("line", ["fatal: not a git repository", "checking for FATAL errors"])
def test_not_every_fatal_is_a_mark(line: str) -> None:
    assert read_report(log([line, "going on"])).fatal is None
