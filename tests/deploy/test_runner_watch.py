"""When the runner ends its agent: faults that no later try can pass, and half an hour without a job."""

import pytest

from deploy.runner.fatal import FATAL, NOT_FATAL, is_fatal
from deploy.runner.watch import REPEATS, Watch
from forge_assets.launches.catalogue import Entry, entries
from tests.deploy.agent_lines import FINISHED, RUNNING_NONE, RUNNING_ONE, job_error, received
from tests.launches.test_catalogue import HARMLESS
from tests.wire.clock import HandClock

MACHINE = (
    'google.api_core.exceptions.InvalidArgument: 400 Machine type "a3-highgpu-1g" is not supported.'
)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def watch(clock: HandClock) -> Watch:
    return Watch(1800, lambda: clock().timestamp())


def read(watch: Watch, lines: list[str]) -> None:
    for line in lines:
        watch.read(f"{line}\n")
    watch.quiet()


def test_every_class_of_the_catalogue_is_decided() -> None:
    assert not set(FATAL) & set(NOT_FATAL)
    assert {entry.error_class for entry in entries()} == set(FATAL) | set(NOT_FATAL)
    assert {entry.error_class for entry in entries() if is_fatal(entry)} == set(FATAL)


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.id)
def test_each_sample_ends_the_agent_or_does_not(entry: Entry, watch: Watch) -> None:
    read(watch, received("a") + job_error(entry.sample))
    assert (watch.fatal is not None) == is_fatal(entry)
    if watch.fatal:
        assert (watch.fatal.id, watch.fatal.error_class) == (entry.id, entry.error_class)
        assert watch.fatal.advice == entry.advice
        assert watch.fatal.line in entry.sample


@pytest.mark.parametrize(
    "id", ["V01", "V03", "V04", "V05", "V14", "A01", "I01", "I02", "W04", "W09"]
)
def test_what_cannot_heal_is_fatal(id: str) -> None:
    assert [is_fatal(entry) for entry in entries() if entry.id == id] == [True]


@pytest.mark.parametrize("id", ["V02", "V06", "G01", "D01", "W01", "W02", "W05", "W10", "R08"])
def test_what_heals_or_is_of_one_job_is_not(id: str) -> None:
    assert [is_fatal(entry) for entry in entries() if entry.id == id] == [False]


def test_no_harmless_line_is_fatal(watch: Watch) -> None:
    for line in HARMLESS:
        for said in (line, f"wandb: {line}", f"wandb: ERROR {line}"):
            read(watch, [said])
            assert watch.fatal is None, said
        read(watch, [RUNNING_ONE, *received(line)])


def test_a_job_that_only_names_an_error_is_not_fatal(watch: Watch) -> None:
    read(watch, [*received("a", MACHINE), RUNNING_ONE])
    assert watch.fatal is None


def test_the_trigger_all_that_match_and_the_tail(watch: Watch) -> None:
    wrapped = f"wandb: ERROR launch: Error running job: Failed to create Vertex job: {MACHINE}"
    read(watch, [f"line {n}" for n in range(200)])
    read(watch, [*received("a"), *job_error(MACHINE), wrapped])
    assert watch.fatal is not None
    assert watch.fatal.line == MACHINE
    assert watch.fatal.matches == (MACHINE,)
    assert len(watch.tail) == 100
    assert watch.tail[-1] == wrapped


def test_the_last_cause_of_a_chain_decides(watch: Watch) -> None:
    chain = (
        "ValueError: no rows\n\nDuring handling of the above exception, another exception occurred:\n\n"
        'Traceback (most recent call last):\n  File "a.py", line 8, in f\n' + MACHINE
    )
    read(watch, job_error(chain))
    assert watch.fatal is not None
    assert watch.fatal.id == "V03"


def test_failing_jobs_of_users_do_not_end_an_agent_that_serves_others(watch: Watch) -> None:
    for n in range(5 * REPEATS):
        read(watch, received(f"item {n}") + job_error("ValueError: no rows"))
    assert watch.fatal is None


def test_one_error_again_and_again_ends_it(watch: Watch, clock: HandClock) -> None:
    read(watch, received("a"))
    for n in range(REPEATS - 1):
        read(watch, [f"Exception: 401 not logged in, request 7f3a{n}"])
        clock.forward(10)
    assert watch.fatal is None
    read(watch, ["Exception: 401 not logged in, request 99"])
    assert watch.fatal is not None
    assert (watch.fatal.id, watch.fatal.error_class) == ("", "repeated")
    assert len(watch.fatal.matches) == REPEATS


def test_seldom_errors_and_those_that_pass_do_not(watch: Watch, clock: HandClock) -> None:
    for _ in range(4 * REPEATS):
        clock.forward(60)
        read(watch, ["Exception: 401 not logged in"])
    for _ in range(4 * REPEATS):
        read(watch, job_error("503 The service is currently unavailable."))
    assert watch.fatal is None


def test_idle_after_half_an_hour_without_a_job(watch: Watch, clock: HandClock) -> None:
    read(watch, [RUNNING_NONE])
    clock.forward(1799)
    assert not watch.is_idle
    clock.forward(1)
    assert watch.is_idle


def test_it_is_not_idle_while_a_job_runs(watch: Watch, clock: HandClock) -> None:
    read(watch, received("a"))
    for _ in range(30):
        clock.forward(300)
        read(watch, [RUNNING_ONE])
        assert not watch.is_idle
    read(watch, [FINISHED])
    clock.forward(1799)
    watch.quiet()
    assert not watch.is_idle
    clock.forward(1)
    assert watch.is_idle
    assert watch.runs == 1


def test_a_long_silence_with_a_job_is_not_idle(watch: Watch, clock: HandClock) -> None:
    read(watch, received("a"))
    clock.forward(4000)
    watch.quiet()
    assert not watch.is_idle
