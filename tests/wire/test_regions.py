"""Eighteen regions at once: one deadline, and each answer says how good it is."""

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import timedelta

import pytest

from resources.cloud.credentials import Access
from resources.cloud.errors import Denied
from resources.cloud.listing import Listing
from resources.cloud.regions import REGIONS, RegionRead, read_regions, with_last_rows
from resources.cloud.vertex import Job, Vertex
from tests.wire import faults
from tests.wire.clock import HandClock
from tests.wire.server import FakeGoogle

HUNG, REFUSED, BUSY, HALF, DOWN = "us-east4", "us-west3", "us-west4", "europe-west9", "us-east5"


@pytest.fixture
def vertex(demo: Access) -> Vertex:
    return Vertex(demo)


def tick(vertex: Vertex, clock: HandClock, seconds: float) -> list[RegionRead[Job]]:
    since = clock.now - timedelta(days=7)
    return read_regions(
        lambda region, left: vertex.jobs(region, since, left), REGIONS, seconds, clock
    )


def test_a_hung_and_a_denied_region_cost_the_others_nothing(
    google: FakeGoogle, vertex: Vertex, clock: HandClock
) -> None:
    for region in REGIONS:
        google.jobs.add(region)
    google.faults.add(faults.hang(), region=HUNG)
    google.faults.add(faults.denied(), region=REFUSED)
    began = time.monotonic()
    reads = tick(vertex, clock, 2.5)
    assert time.monotonic() - began < 10
    assert [read.region for read in reads] == list(REGIONS)
    assert Counter(read.state for read in reads) == {"ok": 16, "timeout": 1, "denied": 1}
    by_region = {read.region: read for read in reads}
    assert all(len(read.rows) == 1 for read in reads if read.state == "ok")
    assert (by_region[HUNG].as_of, by_region[HUNG].said) == (
        None,
        "Vertex AI gave no answer to list_custom_jobs within 2.4 s",
    )
    assert "Permission 'aiplatform.customJobs.list' denied" in by_region[REFUSED].said


def test_every_state_is_told_apart(google: FakeGoogle, vertex: Vertex, clock: HandClock) -> None:
    for _ in range(150):
        google.jobs.add(HALF)
    google.faults.add(faults.second_page(), region=HALF)
    google.faults.add(faults.throttled(), region=BUSY)
    google.faults.add(faults.unavailable(), region=DOWN)
    reads = {read.region: read for read in tick(vertex, clock, 5)}
    assert (reads[BUSY].state, reads[BUSY].rows) == ("throttled", ())
    assert (reads[HALF].state, len(reads[HALF].rows)) == ("partial", 100)
    assert reads[HALF].said == "only the first 100 rows: The service is currently unavailable."
    assert (reads[DOWN].state, reads[DOWN].as_of) == ("partial", None)
    assert reads[DOWN].said == "The service is currently unavailable."
    assert reads["us-central1"].as_of == clock.now


def test_a_region_that_fails_shows_its_last_rows_with_their_time(
    google: FakeGoogle, vertex: Vertex, clock: HandClock
) -> None:
    google.jobs.add(REFUSED)
    before, then = tick(vertex, clock, 5), clock.now
    clock.forward(30)
    google.faults.add(faults.denied(), region=REFUSED)
    shown = with_last_rows(tick(vertex, clock, 5), before)
    read = next(read for read in shown if read.region == REFUSED)
    assert (read.state, len(read.rows), read.as_of) == ("denied", 1, then)
    assert {read.as_of for read in shown if read.region != REFUSED} == {clock.now}


def test_a_read_that_ignores_its_deadline_is_left_behind(clock: HandClock) -> None:
    release = threading.Event()

    def read(region: str, left: float) -> Listing[int]:
        if region == "b":
            release.wait(30)
        if region == "c":
            raise Denied("no")
        return Listing((1,))

    began = time.monotonic()
    reads = read_regions(read, ["a", "b", "c"], 1, clock)
    assert time.monotonic() - began < 5
    assert [read.state for read in reads] == ["ok", "timeout", "denied"]
    assert reads[1].said == "no answer within 1 s"
    release.set()


def test_a_mistake_of_ours_is_no_state_of_a_region(clock: HandClock) -> None:
    def read(region: str, left: float) -> Listing[int]:
        raise KeyError(region)

    with pytest.raises(KeyError):
        read_regions(read, ["a"], 5, clock)


def test_a_program_ends_although_a_region_hangs(google: FakeGoogle) -> None:
    google.faults.add(faults.hang(), region=HUNG)
    program = """
from datetime import UTC, datetime
import os, sys, time
from resources.cloud.credentials import access
from resources.cloud.listing import Listing
from resources.cloud.regions import REGIONS, read_regions
from resources.cloud.vertex import Vertex
vertex = Vertex(access("demo", os.environ))
def read(region, left):
    if region == "us-west1":
        time.sleep(600)
    return vertex.jobs(region, datetime.now(UTC), left)
print(sum(read.state == "ok" for read in read_regions(read, REGIONS, 2.5)))
"""
    environment = {**os.environ, **google.environment, "GRPC_VERBOSITY": "NONE"}
    ended = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, timeout=60
    )
    assert (ended.returncode, ended.stdout.strip(), ended.stderr) == (0, b"16", b"")
