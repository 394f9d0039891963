"""`forge monitor`: what it prints, on a terminal and elsewhere, once and again and again."""

import io
import json
import os
import pty
import signal
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from threading import Event

import pytest
from rich.console import Console
from rich.text import Text

from forge_assets.cli import monitor as command
from forge_assets.cli.monitor_live import View, watch_live
from forge_assets.cli.monitor_rich import rendered
from forge_assets.cli.monitor_text import snapshot_lines
from forge_assets.cli.output import Output
from forge_assets.launches.clouds import NO_SECTION
from forge_assets.launches.monitor.refresh import refreshes
from forge_assets.launches.monitor.shown import colour, duration, error_lines
from forge_assets.launches.monitor.table import Column, RegionState, Row, Snapshot, Span, Table
from resources.errors import ConfigurationError
from tests.launches.monitored import Monitored
from tests.pipeline.project import Project
from tests.wire import faults
from tests.wire.clock import HandClock
from tests.wire.server import FakeGoogle
from tests.wire.wandb_server import FakeWandb

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
FINE = RegionState("us-east1", "ok", NOW)
LOST = RegionState("us-west3", "denied", None, "Permission denied \x1b[31m")
COLUMNS = (Column("name", "Name"), Column("runtime", "Runtime"), Column("note", "Note", 20))


def snapshot(name: str = "x", note: str = "", error: str = "", *lost: RegionState) -> Snapshot:
    span = Span(NOW - timedelta(hours=5), None)
    cells = {"name": name, "runtime": span, "note": note}
    row = Row(name, cells, FINE, error, log=("first", "[bold]second[/bold]\x07"))
    table = Table("vertex_jobs", "Vertex AI jobs", COLUMNS, [row], [FINE, *lost], 12)
    return Snapshot(NOW, [table])


def plain(shown: Snapshot) -> str:
    return "\n".join(snapshot_lines(shown, NOW))


def on_terminal(shown: Snapshot, width: int = 120) -> str:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=width, color_system="standard")
    console.print(rendered(shown, NOW, with_logs=True))
    return file.getvalue()


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "—"),
        (0, "—"),
        (0.9, "—"),
        (3, "3s"),
        (60, "1m 0s"),
        (3_723.9, "1h 2m 3s"),
        (7_200, "2h 0m 0s"),
        (90_061, "25h 1m 1s"),
    ],
)
def test_durations(seconds: float | None, shown: str) -> None:
    assert duration(seconds) == shown


def test_a_long_running_time_has_a_colour() -> None:
    hours = (0, 0.99, 1, 4, 4.01, 8, 8.01)
    colours = ["green", "green", "", "", "yellow", "yellow", "red"]
    assert [colour(3_600 * each) for each in hours] == colours


def test_plain_text_is_aligned_and_says_what_is_missing() -> None:
    lines = plain(snapshot("job", "a note that is too long", "", LOST)).splitlines()
    assert lines[2] == "Vertex AI jobs (1 of 12)"
    assert lines[3] == "  Name  Runtime   Note                  Read"
    assert lines[4] == "  job   5h 0m 0s  a note that is too …  ok, 0s"
    assert lines[5] == "  ! denied: us-west3: never read: Permission denied \\x1b[31m"


def test_a_failure_shows_its_error_and_its_log_below() -> None:
    text = plain(snapshot("job", "", "it broke\nat once"))
    assert "job  us-east1\n  ERROR: it broke at once\n  log, 2 lines:\n    first\n" in text
    assert list(error_lines(snapshot("job").tables[0].rows[0], with_log=True)) == []


def test_a_terminal_is_commanded_by_nobody_and_markup_is_text() -> None:
    shown = snapshot("[red]job[/red]", "\x1b[2J[/nothing]", "[link=http://x]\x9b", LOST)
    text = on_terminal(shown)
    bare = Text.from_ansi(text).plain
    assert "[red]job[/red]" in bare
    assert "\\x1b[2J[/nothing]" in bare
    assert "ERROR: [link=http://x]\\x9b" in bare
    assert "[bold]second[/bold]\\x07" in bare
    assert "\x1b[2J" not in text
    assert "\x07" not in text
    assert "\x1b[33m5h 0m 0s" in text
    assert bare.index("us-west3 denied") < bare.index("Vertex AI jobs")


def test_the_names_of_tables_are_checked_first() -> None:
    known = "runner_executions, active_builds, recent_builds, vertex_jobs, active_runs"
    with pytest.raises(ConfigurationError, match=f"--table jobs: no such table; known: {known}"):
        command.show(["vertex_jobs", "jobs"], watch=False, as_json=False)


def test_json_has_raw_values(
    google: FakeGoogle, wandb: FakeWandb, clock: HandClock, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud = Monitored(google, wandb, clock)
    google.jobs.add("us-east1", 60, display_name="train\x1b")
    assert command.show_once(lambda: cloud.read("vertex_jobs"), as_json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told) == ["as_of", "tables", "complete"]
    assert datetime.fromisoformat(told["as_of"]) == clock.now
    (table,) = told["tables"].values()
    assert list(table) == ["rows", "regions", "complete", "found", "found_more", "note"]
    (row,) = table["rows"]
    created = datetime.fromisoformat(row["created"])
    assert created == clock.now - timedelta(seconds=60)
    assert (row["display_name"], row["state"]) == ("train\x1b", "RUNNING")
    assert row["runtime"] >= 58
    assert {region["region"] for region in table["regions"]} == {"us-central1", "us-east1"}
    assert set(table["regions"][0]) == {"region", "state", "age", "said"}


class Pace:
    """A clock that only waiting moves, and reads that take their time."""

    def __init__(self, takes: list[float]) -> None:
        self.now = 0.0
        self.began: list[float] = []
        self._takes = takes

    def read(self) -> Snapshot:
        self.began.append(self.now)
        self.now += self._takes.pop(0)
        return snapshot()

    def wait(self, seconds: float) -> bool:
        self.now += seconds
        return not self._takes


def test_a_refresh_every_thirty_seconds_and_none_while_one_is_under_way() -> None:
    pace = Pace([1, 29, 45, 30, 0, 61, 1])
    assert len(list(refreshes(pace.read, pace.wait, lambda: pace.now))) == 7
    assert pace.began == [0, 30, 60, 120, 150, 180, 270]


@pytest.mark.parametrize("as_json", [True, False])
def test_without_a_terminal_each_refresh_is_printed(
    as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [snapshot("one"), snapshot("two", "", "", LOST)]
    code = command.show_each(lambda: found.pop(0), as_json, lambda _: not found)
    told = capsys.readouterr()
    assert code == 1
    assert told.err == "forge: not read whole: us-west3 denied (vertex_jobs)\n"
    assert "\x1b" not in told.out
    if as_json:
        one, two = [json.loads(line) for line in told.out.splitlines()]
        assert (one["complete"], two["complete"]) == (True, False)
    else:
        assert told.out.count("as of") == 2


def test_a_terminal_shows_the_newest_snapshot_with_durations_that_go_on() -> None:
    clock = HandClock()
    clock.now = NOW
    view = View(clock)
    console = Console(file=io.StringIO(), width=100)

    def drawn() -> str:
        with console.capture() as capture:
            console.print(view.drawn())
        return capture.get()

    assert "reading..." in drawn()
    view.follow([snapshot()])
    assert "5h 0m 0s" in drawn()
    clock.forward(1)
    assert "5h 0m 1s" in drawn()
    assert "ok, 1s" in drawn()


def test_watching_ends_when_told_and_with_what_a_refresh_raised() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    stop, reads = Event(), []

    def read() -> Snapshot:
        reads.append(1)
        stop.set()
        return snapshot("brave-otter")

    watch_live(read, stop, console)
    assert len(reads) == 1
    assert "brave-otter" in console.file.getvalue()

    def broken() -> Snapshot:
        raise ConfigurationError("no such region")

    with pytest.raises(ConfigurationError, match="no such region"):
        watch_live(broken, Event(), console)


def test_printing_ends_when_nobody_reads_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as gone:
        monkeypatch.setattr(sys, "stdout", gone)
        Output()
        assert command.show_each(snapshot, True, lambda _: False) == 0


CLOUD = {"project": "demo", "regions": ["us-central1", "us-east1"]}


def test_without_the_section_one_sentence_with_the_fix(project: Project) -> None:
    ended = project.forge("monitor")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == f"forge: {NO_SECTION}\n"
    ended = project.forge("monitor", "--table", "jobs")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("forge: --table jobs: no such table; known: runner_executions, ")


def test_the_command_tells_what_it_could_not_read(project: Project, google: FakeGoogle) -> None:
    project.configure(cloud=CLOUD)
    google.jobs.add("us-east1", 60, display_name="train")
    ended = project.forge("monitor", **google.environment)
    assert (ended.code, ended.err) == (0, "")
    assert "train" in ended.out
    assert "cloud.wandb" in ended.out
    assert "\x1b" not in ended.out
    google.faults.add(faults.denied(), "ListCustomJobs", "us-central1")
    options = "--table", "vertex_jobs", "--table", "active_builds", "--json"
    ended = project.forge("monitor", *options, **google.environment)
    assert (ended.code, ended.err) == (
        1,
        "forge: not read whole: us-central1 denied (vertex_jobs)\n",
    )
    tables = ended.data["tables"]
    assert list(tables) == ["active_builds", "vertex_jobs"]
    assert [tables[name]["complete"] for name in tables] == [True, False]


def test_watching_ends_with_control_c(project: Project, google: FakeGoogle) -> None:
    project.configure(cloud=CLOUD)
    command = project.start(
        "forge_assets.cli.main", "monitor", "--watch", "--json", **google.environment
    )
    command.says("\n")
    command.send(signal.SIGINT)
    ended = command.wait()
    assert (ended.code, ended.err) == (130, "")
    assert ended.data["complete"]


def test_watching_on_a_terminal_ends_with_control_c(project: Project, google: FakeGoogle) -> None:
    project.configure(cloud=CLOUD)
    google.jobs.add("us-east1", 60, display_name="brave-otter")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "forge_assets.cli.main", "monitor", "--watch"],
        cwd=project.folder,
        env={**project.environment, **google.environment, "TERM": "xterm", "COLUMNS": "200"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""
    with open(ours, "rb", buffering=0) as screen:
        while b"brave-otter" not in shown:
            shown += screen.read(4096)
        process.send_signal(signal.SIGINT)
        with suppress(OSError):
            while more := screen.read(4096):
                shown += more
    assert process.wait(60) == 130
    assert b"Traceback" not in shown
    assert b"reading..." in shown
    assert b"\x1b[32m" in shown
    # The cursor, which was hidden while it drew, is there again.
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l")


@pytest.mark.parametrize("width", [80, 100, 160])
def test_a_row_stays_on_one_line_however_narrow_the_terminal(width: int) -> None:
    shown = Text.from_ansi(on_terminal(snapshot("train-1a0e17b7", "word " * 20), width)).plain
    assert len([line for line in shown.splitlines() if "train-1a0e17b7" in line]) == 1
    assert max(map(len, shown.splitlines())) <= width
    assert ("Note" in shown) == (width == 160)
