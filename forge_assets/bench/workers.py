"""What worker threads bring, and what batching brings: the same rows in four ways.

Workers are threads that share one loaded model. Without batches each calls ``generate`` for its own
rows at the same time as the others. With batches each hands its rows to the one engine, which does
one call at a time: so a worker's batch holds its own share of the rows and no more.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from threading import Lock
from time import perf_counter
from typing import Any

from forge_assets.bench.contestants import SEQUENTIAL, Contestant, Entrant
from forge_assets.bench.work import Work
from resources.gpu.engines.base import GenerationRequest
from resources.gpu.model_config import Dtype

WORKERS = 5
_OURS = Contestant("our engine", {"engine": "transformers"})


@dataclass(frozen=True)
class Way:
    """One way to do the rows. ``seconds`` is the best of its turns."""

    name: str
    workers: int
    batches: bool
    seconds: float


@dataclass(frozen=True)
class FourWays:
    """The same rows in every way."""

    dtype: Dtype
    rows: int
    ways: tuple[Way, ...]

    def times_sequential(self, way: Way) -> float:
        return self.ways[0].seconds / way.seconds

    def as_json(self) -> dict[str, Any]:
        ways = [
            {**asdict(way), "times_sequential": self.times_sequential(way)} for way in self.ways
        ]
        return {"dtype": self.dtype, "rows": self.rows, "ways": ways}


def measure_four_ways(
    dtype: Dtype, work: Work, rows: int, repeats: int, say: Callable[[str], None]
) -> FourWays:
    """The first ``rows`` of the work in turns, each way ``repeats`` times."""
    requests = work.requests[:rows]
    alone = Entrant.enter(SEQUENTIAL, dtype, work)
    ours = Entrant.enter(_OURS, dtype, work)
    ways = {
        "sequential": (alone, 1),
        "workers only": (alone, WORKERS),
        "batches only": (ours, 1),
        "both": (ours, WORKERS),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    try:
        for _ in range(repeats):
            for name, (entrant, workers) in ways.items():
                seconds[name].append(_seconds(entrant, requests, workers))
    finally:
        alone.close()
        ours.close()
    found = FourWays(
        dtype,
        len(requests),
        tuple(
            Way(name, workers, entrant is ours, min(seconds[name]))
            for name, (entrant, workers) in ways.items()
        ),
    )
    for way in found.ways:
        say(f"{dtype}: {way.name} {way.seconds:.1f} s for {rows} rows")
    return found


def _seconds(entrant: Entrant, requests: Sequence[GenerationRequest], workers: int) -> float:
    """Every worker does an equal share. ``generate`` may run in several threads, an engine may not."""
    contestant = entrant.contestant
    turn = nullcontext() if contestant is SEQUENTIAL else Lock()

    def work(share: Sequence[GenerationRequest]) -> None:
        with turn:
            list(contestant.generate(entrant.engine, share))

    shares = [requests[number::workers] for number in range(workers)]
    started = perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, shares))
    return perf_counter() - started
