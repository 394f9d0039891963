"""The clock of a worker jumps by a day, forward and back: leases, retries and results do not care."""

import os
import shutil
import struct
import subprocess
from functools import partial
from pathlib import Path

import pytest

from tests.chaos.conftest import Figures, MakeProject
from tests.chaos.stage_check import RUN, check_each_ended_once, ended, run_stage, served
from tests.chaos.stub_server import StubServer
from tests.chat_server import Reply
from tests.pipeline.project import SMALL, Project

DAY = 86400
SUBJECTS = 60
LEASE_SECONDS = 300
LONGEST_RETRY_SECONDS = 120

# Every way to the wall clock of a process, shifted by the number in a file; monotonic ones stay.
SHIM = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *shift;

__attribute__((constructor)) static void begin(void) {
    int file = open(getenv("CHAOS_CLOCK"), O_RDONLY);
    void *place = mmap(NULL, 8, PROT_READ, MAP_SHARED, file, 0);
    if (file < 0 || place == MAP_FAILED) abort();
    shift = place;
    close(file);
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    long code = syscall(SYS_clock_gettime, clock, now);
    if (!code && shift && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += *shift;
    return code;
}
int gettimeofday(struct timeval *now, void *zone) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *place) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (place) *place = now.tv_sec;
    return now.tv_sec;
}
"""


class Clock:
    """What a process that is started with ``environment`` sees on the wall."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("no C compiler to make the clock with")
        source, library = folder / "clock.c", folder / "clock.so"
        source.write_text(SHIM)
        command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source)]
        subprocess.run(command, check=True)
        self._file = folder / "clock"
        self._file.write_bytes(struct.pack("=q", 0))
        self.environment = {"LD_PRELOAD": str(library), "CHAOS_CLOCK": str(self._file)}

    def shift(self, seconds: int) -> None:
        with self._file.open("r+b") as file:
            os.pwrite(file.fileno(), struct.pack("=q", seconds), 0)


def refuses_some_twice(prompt: str, times: int) -> Reply:
    """Every fifth subject's first attempt fails, so that it waits for its retry."""
    unlucky = "5" in prompt.partition(":")[0]
    return Reply(500, {"error": "not yet"}) if unlucky and times < 2 else Reply()


def leases_and_retries_are_near(project: Project) -> bool:
    """By the database's clock, which does not jump."""
    (row,) = project.query(
        "SELECT max(extract(epoch FROM lease_until - clock_timestamp())) AS lease,"
        " min(extract(epoch FROM lease_until - clock_timestamp())) AS first_lease,"
        " max(extract(epoch FROM retry_at - clock_timestamp())) AS retry FROM forge.interactions"
    )
    lease, first, retry = (float(row[name] or 0) for name in ("lease", "first_lease", "retry"))
    return first >= 0 and lease <= LEASE_SECONDS and retry <= LONGEST_RETRY_SECONDS


def more_ended(project: Project, number: int) -> bool:
    return ended(project) > number


@pytest.mark.chaos
def test_the_clock_jumps_by_a_day_and_back(
    database: str, tmp_path: Path, make_project: MakeProject, figures: Figures
) -> None:
    clock = Clock(tmp_path)
    with StubServer(refuses_some_twice, seconds=0.5) as server:
        project = make_project(database, server, {"canary-10": SUBJECTS, "ramp-50": 5})
        project.configure(models={SMALL: served(server, max_batch=8)})
        command = project.start(RUN, *run_stage("canary-10"), **clock.environment)
        try:
            for number, shift in enumerate((DAY, -DAY, 0, -DAY, DAY)):
                command.until(partial(more_ended, project, 20 * number), "more work done")
                clock.shift(shift)
                assert leases_and_retries_are_near(project)
            done = command.wait()
        finally:
            command.end()
        assert done.code == 0, done.text
        # Two days after, by this clock, comes the next stage.
        clock.shift(-DAY)
        after = project.forge(*run_stage("ramp-50"), **clock.environment)
        assert after.code == 0, after.text
    total = SUBJECTS + 5
    assert check_each_ended_once(project, total) == {"completed": 2 * total}
    kinds = "SELECT count(*) FROM forge.interaction_events WHERE kind = :kind"
    retried, reclaimed, refused = (
        project.scalar(kinds, kind=kind) for kind in ("retried", "reclaimed", "refused")
    )
    (seen,) = project.query(
        "SELECT extract(epoch FROM max(timestamp) - min(timestamp)) / 86400 AS days"
        " FROM public.event_logs"
    )
    figures(
        f"5 jumps of a day or two, the run's own log spans {float(seen['days']):.1f} days; exit 0,"
        f" {retried} retries, {reclaimed} reclaimed, {refused} refused,"
        f" {server.answered.total() - 2 * total} answers made again"
    )
    assert float(seen["days"]) > 1.9, "the run saw its clock jump"
    assert retried > 0
    assert (reclaimed, refused) == (0, 0)
    assert server.answered.total() == 2 * total
