"""How long one tick over 18 regions takes.

``GRPC_VERBOSITY=NONE python -m tests.wire.tick`` prints the figures.
"""

import resource
import statistics
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta

from resources.cloud.credentials import access
from resources.cloud.regions import REGIONS, RegionRead, read_regions, utc_now
from resources.cloud.vertex import Job, Vertex
from tests.wire import faults
from tests.wire.server import FakeGoogle

LATENCY_SECONDS = 0.08
DEADLINE_SECONDS = 2.0
REPEATS = 20


def measure() -> list[str]:
    """One line a figure. The fake's own work is in the processor time: it is in this process."""
    with FakeGoogle() as google:
        for region in REGIONS:
            for age in range(10):
                google.jobs.add(region, age_seconds=60 * age)
        google.faults.add(faults.latency(LATENCY_SECONDS))
        vertex = Vertex(access("demo", google.environment))

        def tick() -> list[RegionRead[Job]]:
            since = utc_now() - timedelta(days=7)
            return read_regions(
                lambda region, left: vertex.jobs(region, since, left), REGIONS, DEADLINE_SECONDS
            )

        lines = [_line("first tick, 18 channels are made", [_timed(tick)])]
        lines.append(_line("later ticks", [_timed(tick) for _ in range(REPEATS)]))
        google.faults.add(faults.hang(), region="us-east4")
        google.faults.add(faults.denied(), region="us-west3")
        return [*lines, _line("one hung, one denied", [_timed(tick) for _ in range(3)])]


def _timed(
    tick: Callable[[], list[RegionRead[Job]]],
) -> tuple[float, float, Counter[str]]:
    """Seconds by the clock and of the processor, and how many regions came in which state."""
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    states = Counter(read.state for read in tick())
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, cpu, Counter[str](states)


def _line(what: str, ticks: list[tuple[float, float, Counter[str]]]) -> str:
    seconds = [tick[0] for tick in ticks]
    cpu = statistics.median(tick[1] for tick in ticks)
    return (
        f"{what}: median {statistics.median(seconds):.3f} s, slowest {max(seconds):.3f} s of "
        f"{len(ticks)}, processor {cpu:.3f} s, {dict(ticks[-1][2])}"
    )


if __name__ == "__main__":
    print(
        f"{len(REGIONS)} regions at {LATENCY_SECONDS * 1000:.0f} ms, deadline {DEADLINE_SECONDS} s"
    )
    print("\n".join(measure()))
