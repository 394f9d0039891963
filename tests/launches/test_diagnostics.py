"""An execution watched by its name: what its state and its log tell, and what cannot be read."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from forge_assets.launches.diagnostics import (
    fetch_detailed_error_context,
    parse_runner_logs_for_errors,
    patient_read,
)
from forge_assets.launches.execution_watch import ExecutionWatch
from forge_assets.launches.log_reader import BUDGET, LogReader
from resources.cloud.connections import LOGGING
from resources.diagnosis_store import DiagnosisStore
from resources.errors import ConfigurationError
from tests.launches.diagnosing import (
    REGION,
    RUNNER,
    TRACEBACK,
    clouds_of,
    short,
    write_log,
)
from tests.wire import faults
from tests.wire.clock import HandClock
from tests.wire.runs import ExecutionLife
from tests.wire.server import FakeGoogle

SECOND = timedelta(seconds=1)
BUDGET_OF_ALL = BUDGET, LOGGING.per_minute, LOGGING.burst
MACHINE = 'wandb: ERROR 400 Machine type "a3-highgpu-1g" is not supported.'
Answer = tuple[bool, bool, list[str]]


class Watched:
    """A watch whose waiting moves the clock. ``later``: what happens once its time has come."""

    def __init__(
        self, google: FakeGoogle, clock: HandClock, diagnoses: DiagnosisStore | None
    ) -> None:
        self.google, self.clock = google, clock
        self.told: list[str] = []
        self.later: list[tuple[datetime, Callable[[], None]]] = []
        self._diagnoses = diagnoses

    def at(self, seconds: float, deed: Callable[[], None]) -> None:
        self.later.append((self.clock.now + seconds * SECOND, deed))

    def run(self, name: str, seconds: float = 900) -> Answer:
        clouds = clouds_of(self.google)
        reader = LogReader(clouds.logs, self._diagnoses)
        watch = ExecutionWatch(clouds.cloud_run, reader, self.clock, self._wait, self.told.append)
        return watch.run(name, REGION, seconds)

    def _wait(self, seconds: float) -> None:
        self.clock.forward(seconds)
        for when, deed in list(self.later):
            if when <= self.clock.now:
                self.later.remove((when, deed))
                deed()


@pytest.fixture
def watched(google: FakeGoogle, clock: HandClock) -> Watched:
    return Watched(google, clock, None)


def start(google: FakeGoogle, life: ExecutionLife, age: float = 0.0) -> str:
    google.runs.add_job(RUNNER)
    return google.runs.start(RUNNER, age_seconds=age, life=life).name


def reads(google: FakeGoogle) -> int:
    return len(google.named("ListLogEntries"))


def test_a_success_with_every_line_once(
    google: FakeGoogle, watched: Watched, clock: HandClock
) -> None:
    name = start(google, ExecutionLife(ends=100))
    write_log(google, name, clock.now + SECOND, "same", "same", "Runs: 1")
    watched.at(103, lambda: write_log(google, name, clock.now - 2 * SECOND, "late"))
    began = clock.now
    assert watched.run(short(name)) == (False, True, ["same", "same", "Runs: 1", "late"])
    assert (clock.now - began).total_seconds() == 105
    # At 15, 30 and 60 s, and at the end.
    assert reads(google) == 4
    assert len(google.named("GetExecution")) == 21
    assert watched.told == [f"{short(name)} is {state}" for state in ("PENDING", "RUNNING")] + [
        f"{short(name)} is SUCCEEDED"
    ]


def test_a_failure_waits_for_the_lines_that_tell_it(
    google: FakeGoogle, watched: Watched, clock: HandClock
) -> None:
    name = start(google, ExecutionLife(ends=8, exit_code=1, message="Task failed."))
    ended = clock.now + 8 * SECOND
    watched.at(35, lambda: write_log(google, name, ended - SECOND, MACHINE))
    google.logs.add_audit(ended, "Execution x has failed to complete, 0/1 tasks", short(name))
    has_error, success, lines = watched.run(name)
    assert (has_error, success) == (True, False)
    assert lines == [MACHINE, "Execution x has failed to complete, 0/1 tasks"]
    assert watched.told[-2:] == [
        f"{short(name)} is FAILED: Task failed.",
        f"error found: {MACHINE.removeprefix('wandb: ERROR ')}",
    ]
    assert (clock.now - ended).total_seconds() < 40


def test_a_failure_that_nothing_tells_ends_too(
    google: FakeGoogle, watched: Watched, clock: HandClock
) -> None:
    name = start(google, ExecutionLife(ends=8, exit_code=1))
    assert watched.run(name) == (True, False, [])
    assert reads(google) == 5
    # Its last lines are there for long: one read is enough.
    clock.forward(400)
    assert watched.run(name) == (True, False, [])
    assert reads(google) == 6


def test_a_runner_that_lives_on_with_an_error(
    google: FakeGoogle, watched: Watched, clock: HandClock
) -> None:
    name = start(google, ExecutionLife())
    watched.at(10, lambda: write_log(google, name, clock.now, MACHINE))
    has_error, success, lines = watched.run(name, seconds=60)
    assert (has_error, success, lines) == (True, False, [MACHINE])
    assert sum(sentence.startswith("error found") for sentence in watched.told) == 1


def test_what_an_agent_survives_is_no_error(
    google: FakeGoogle, watched: Watched, clock: HandClock
) -> None:
    name = start(google, ExecutionLife(ends=30), age=1_000)
    write_log(google, name, clock.now - 980 * SECOND, "503 The service is currently unavailable.")
    has_error, success, lines = watched.run(name)
    assert (has_error, success, len(lines)) == (False, True, 1)


def test_a_cancelled_execution_is_no_success(google: FakeGoogle, watched: Watched) -> None:
    name = start(google, ExecutionLife())
    watched.at(20, lambda: google.runs.cancel(name))
    assert watched.run(name) == (True, False, [])


def test_what_cannot_be_read_is_unknown_and_no_success(
    google: FakeGoogle, watched: Watched, clock: HandClock
) -> None:
    name = start(google, ExecutionLife(ends=100))
    google.faults.add(faults.denied("run.executions.get"), "GetExecution")
    has_error, success, lines = watched.run(name)
    assert (has_error, success) == (False, False)
    assert lines == [
        f"the state of {name} is not known: "
        "Permission 'run.executions.get' denied on resource (or it may not exist)."
    ]
    google.faults.clear()
    google.faults.add(faults.unavailable(), "GetExecution", times=3)
    assert watched.run(name)[:2] == (False, True)
    google.faults.add(faults.unavailable(), "GetExecution")
    before = clock.now
    assert watched.run(name, seconds=60)[:2] == (False, False)
    assert (clock.now - before).total_seconds() == 60


def test_one_that_is_not_there_is_given_time_to_appear(
    google: FakeGoogle, watched: Watched, clock: HandClock
) -> None:
    began = clock.now
    has_error, success, lines = watched.run("vertex-ai-launcher-00000")
    assert (has_error, success, (clock.now - began).total_seconds()) == (False, False, 20)
    assert "was not found" in lines[0]
    watched.at(10, lambda: start(google, ExecutionLife(ends=1)) and None)
    assert watched.run("vertex-ai-launcher-00000")[:2] == (False, True)


def test_a_spent_budget_is_waited_for_and_is_no_failure(
    google: FakeGoogle, clock: HandClock, postgres_engine: sa.Engine
) -> None:
    diagnoses = DiagnosisStore(postgres_engine)
    name = start(google, ExecutionLife(ends=60), age=1_000)
    for _ in range(20):
        diagnoses.take_read(*BUDGET_OF_ALL)
    watched = Watched(google, clock, diagnoses)
    has_error, success, lines = watched.run(name, seconds=2)
    assert (has_error, success) == (False, True)
    assert lines[-1].startswith(f"log of {short(name)}: not read: throttled")
    # The store's own clock went on while the test's did.
    diagnoses.pause_reads(*BUDGET_OF_ALL, 0.0)
    assert watched.run(name) == (False, True, [])


def test_the_window_waits_for_the_budget_a_minute_at_most(
    google: FakeGoogle, clock: HandClock, postgres_engine: sa.Engine
) -> None:
    diagnoses = DiagnosisStore(postgres_engine)
    clouds = clouds_of(google)
    name = start(google, ExecutionLife(ends=60), age=1_000)
    write_log(google, name, clock.now - 990 * SECOND, "hello")
    execution = clouds.cloud_run.execution(name, 5)
    waited: list[float] = []

    diagnoses.pause_reads(*BUDGET_OF_ALL, 20.0)
    log = patient_read(LogReader(clouds.logs, diagnoses), execution, clock, waited.append)
    # Nothing moved the store's clock.
    assert (log.entries, len(waited)) == ((), 3)
    assert log.note.startswith("not read: throttled")


# The public functions, as a script calls them.


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGoogle]:
    """A fake Google on the time of day, which the environment names; no database can be reached."""
    monkeypatch.setenv("FORGE_DATABASE_URL", "postgresql://nobody@127.0.0.1:9/none")
    with FakeGoogle() as google:
        for name, value in google.environment.items():
            monkeypatch.setenv(name, value)
        yield google


def ran(google: FakeGoogle, exit_code: int, ends: float = 1.0, age: float = 0.0) -> str:
    life = ExecutionLife(runs=0.0, ends=ends, exit_code=exit_code)
    return start(google, life, age)


def test_by_its_short_name_until_its_end(cloud: FakeGoogle) -> None:
    name = ran(cloud, exit_code=0)
    write_log(cloud, name, datetime.now(UTC), "hello")
    told: list[str] = []
    began = time.monotonic()
    answer = parse_runner_logs_for_errors(short(name), "demo", REGION, 2.0, told.append)
    assert answer == (False, True, ["hello"])
    assert told[-1] == f"{short(name)} is SUCCEEDED"
    assert time.monotonic() - began < 10


def test_a_failure_with_its_lines_and_their_window(
    cloud: FakeGoogle, forge_database: str, postgres_engine: sa.Engine
) -> None:
    """With the store: the second question reads nothing."""
    name = ran(cloud, exit_code=1, age=1_000)
    noise = [f"step {number}" for number in range(300)]
    write_log(cloud, name, datetime.now(UTC) - 990 * SECOND, *noise, TRACEBACK, *noise)
    has_error, success, lines = parse_runner_logs_for_errors(short(name), "demo", REGION)
    assert (has_error, success) == (True, False)
    assert lines == [*noise, *TRACEBACK.splitlines(), *noise]
    before = reads(cloud)
    for _ in range(2):
        context = fetch_detailed_error_context(short(name), "demo", REGION)
        assert len(context) == 100
        assert TRACEBACK in "\n".join(context)
    assert reads(cloud) == before + 1
    assert DiagnosisStore(postgres_engine).diagnosis(name) is not None
    assert len(fetch_detailed_error_context(name, "demo", REGION, context_lines=20)) == 20
    assert reads(cloud) == before + 2


def test_the_last_lines_where_nothing_is_wrong(cloud: FakeGoogle) -> None:
    name = ran(cloud, exit_code=0, age=1_000)
    assert fetch_detailed_error_context(name, "demo", REGION) == []
    write_log(cloud, name, datetime.now(UTC) - 990 * SECOND, *map(str, range(200)))
    assert fetch_detailed_error_context(name, "demo", REGION, 3) == ["197", "198", "199"]
    cloud.faults.add(faults.denied("logging.logEntries.list"), "ListLogEntries")
    (sentence,) = fetch_detailed_error_context(name, "demo", REGION)
    assert sentence.startswith(f"the log of {name} was not read: Permission")
    (sentence,) = fetch_detailed_error_context("nothing-abcde", "demo", REGION)
    assert sentence.startswith("nothing-abcde cannot be read: Resource")


def test_without_credentials_it_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="no Google credentials"):
        parse_runner_logs_for_errors("runner-abcde", "demo", REGION)
    with pytest.raises(ConfigurationError, match="no Google credentials"):
        fetch_detailed_error_context("runner-abcde", "demo", REGION)


@pytest.mark.parametrize(
    ("name", "region", "timeout", "said"),
    [
        ("", "us-central1", 1, "names no execution"),
        ("a/b", "us-central1", 1, "names no execution"),
        (None, "us-central1", 1, "names no execution"),
        ("r-1", "", 1, "is no region"),
        ("r-1", "us central", 1, "is no region"),
        ("r-1", "us-central1", float("nan"), "timeout_seconds"),
        ("r-1", "us-central1", -1, "timeout_seconds"),
    ],
)
def test_names_that_nothing_can_have_are_refused_in_one_sentence(
    name: str, region: str, timeout: float, said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        parse_runner_logs_for_errors(name, "demo", region, timeout)
    if said != "timeout_seconds":
        with pytest.raises(ConfigurationError, match=said):
            fetch_detailed_error_context(name, "demo", region)
