"""How quick the store is when it is large: claims, commits, status, the gate.

    python -m forge_assets.bench.scale --rows 1000000

Fills a database of its own on the project's server (about 1.5 GB for a million rows), measures, and
drops it. The user's data are not touched.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from forge_assets.bench.own_database import own_database
from forge_assets.bench.scale_data import DATASET, PROMPT, Filled, fill
from forge_assets.config import Thresholds
from forge_assets.gate import RunLiveness, evaluate_gate
from forge_assets.markdown import table
from resources.database import create_engine
from resources.gpu.dtype_probe import cpu_model
from resources.interaction import Claim, Result, Status
from resources.interaction_store import InteractionStore, StageScope
from resources.migrate import migrate

WORKERS = 3
"""One more than a small machine has cores: a commit also waits for the disk."""
BATCH = 250
ROUNDS = 3
"""The fastest counts: whatever else the machine does only makes one slower."""
_REPEATS = 15
_CLAIMS = 40
_LEASE_SECONDS = 600


@dataclass(frozen=True)
class Reading:
    """One statement, or group of statements, in milliseconds; ``first`` is before all repeats."""

    name: str
    first: float
    median: float
    worst: float


@dataclass(frozen=True)
class Throughput:
    results: int
    seconds: float

    @property
    def per_second(self) -> float:
        return self.results / self.seconds


def measure(
    rows: int, work_rows: int, say: Callable[[str], None], workers: int = WORKERS
) -> dict[str, Any]:
    with own_database() as url:
        engine = create_engine(url, pool_size=workers)
        migrate(engine)
        started = time.perf_counter()
        filled = fill(engine, rows, work_rows, say)
        say(f"filled in {time.perf_counter() - started:.0f} s")
        result = {
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "cpu": cpu_model(),
            "cores": os.cpu_count(),
            "database": _describe(engine),
            **_measure(InteractionStore(engine), filled, workers, say),
        }
        engine.dispose()
    return result


def _measure(
    store: InteractionStore, filled: Filled, workers: int, say: Callable[[str], None]
) -> dict[str, Any]:
    stage, *rest = filled.waiting
    readings = [*_reads(store, filled, stage), _claims(store, filled, stage)]
    rounds = [
        work(store, filled, rest[n::ROUNDS], workers) for n in range(ROUNDS) if rest[n::ROUNDS]
    ]
    throughput = max(rounds, key=lambda done: done.per_second)
    rates = ", ".join(f"{done.per_second:,.0f}" for done in rounds)
    say(f"claim and commit: {throughput.per_second:,.0f} results/s ({rates})")
    readings += [
        timed("status of all stages, tallies not folded", lambda: _status(store, filled, None)),
        timed("fold_tallies", lambda: store.fold_tallies(DATASET, more_than=0), repeats=0),
        timed("status of all stages, folded", lambda: _status(store, filled, None)),
    ]
    say(
        table(
            ["read", "first ms", "median ms", "worst ms"],
            [[r.name, *(f"{ms:.1f}" for ms in (r.first, r.median, r.worst))] for r in readings],
        )
    )
    return {
        "claim_and_commit": {
            **asdict(throughput),
            "per_second": throughput.per_second,
            "all_per_second": [done.per_second for done in rounds],
            "workers": workers,
            "batch": BATCH,
        },
        "readings_ms": [asdict(reading) for reading in readings],
    }


def _reads(store: InteractionStore, filled: Filled, stage: StageScope) -> list[Reading]:
    position = next(n for n, (key, _, _) in enumerate(filled.stages) if key == stage.partition)
    names = [key for key, _, _ in filled.stages[position - 1 : position + 1]]

    def gate() -> None:
        store.sync_stages(DATASET, filled.stages)
        before, own = store.stage_counts(DATASET, stage.workflow, filled.versions, names)
        evaluate_gate(own, before, RunLiveness(), Thresholds(per_minute=0))

    return [
        timed("status of all stages", lambda: _status(store, filled, None)),
        timed("status of two stages", lambda: _status(store, filled, names)),
        timed("the gate's decision", gate),
        timed("sync_stages, nothing changed", lambda: store.sync_stages(DATASET, filled.stages)),
        timed("open_work", lambda: store.open_work(stage)),
        timed("ready_models", lambda: store.ready_models(stage)),
        timed("reclaim_expired", lambda: store.reclaim_expired(stage)),
    ]


def _status(store: InteractionStore, filled: Filled, partitions: Sequence[str] | None) -> None:
    store.stage_counts(DATASET, filled.workflow.name, filled.versions, partitions)


def _claims(store: InteractionStore, filled: Filled, stage: StageScope) -> Reading:
    """32 at a time; all are handed back."""
    store.register_run("claims", stage, pid=1, host="here")
    reading = timed(
        "a claim of 32", lambda: _claim(store, filled, stage, "claims", filled.models[0], 32)
    )
    store.hand_back("claims")
    return reading


def timed(name: str, call: Callable[[], object], repeats: int = _REPEATS) -> Reading:
    """The call, once and then ``repeats`` times."""
    found = []
    for _ in range(1 + repeats):
        started = time.perf_counter()
        call()
        found.append(1000 * (time.perf_counter() - started))
    rest = found[1:] or found
    return Reading(name, found[0], statistics.median(rest), max(rest))


def work(
    store: InteractionStore, filled: Filled, stages: Sequence[StageScope], workers: int
) -> Throughput:
    """Claim and commit everything in the stages, each by one of the workers."""
    parts = [stages[number::workers] for number in range(workers)]
    started = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        results = sum(pool.map(lambda part: _work_on(store, filled, part), parts))
    return Throughput(results, time.perf_counter() - started)


def _work_on(store: InteractionStore, filled: Filled, stages: Sequence[StageScope]) -> int:
    done = 0
    for stage in stages:
        run_id = f"work-{stage.partition}"
        store.register_run(run_id, stage, pid=1, host="here")
        while models := store.ready_models(stage):
            for model in models:
                claims = _claim(store, filled, stage, run_id, model, BATCH)
                report = store.commit(run_id, [_result(claim) for claim in claims], filled.advance)
                done += report.committed
        store.end_run(run_id, stage, "finished")
    return done


def _claim(
    store: InteractionStore,
    filled: Filled,
    stage: StageScope,
    run_id: str,
    model: str,
    limit: int,
) -> list[Claim]:
    return store.claim(
        stage,
        model,
        run_id=run_id,
        limit=limit,
        lease_seconds=_LEASE_SECONDS,
        ancestors_of=filled.ancestors,
        versions=filled.versions,
    )


def _result(claim: Claim) -> Result:
    """Of the size that the demo's results have; two grades of five take the branch."""
    return Result(
        claim.interaction_id,
        claim.token,
        Status.COMPLETED,
        prompt=PROMPT,
        output="an answer " * 8,
        parsed={"clarity": claim.ordinal % 5 + 1, "completeness": 3},
        prompt_tokens=120,
        output_tokens=12,
        provenance={"seconds": 0.5, "engine": "arena", "device": "cpu", "dtype": "bfloat16"},
    )


def _describe(engine: sa.Engine) -> dict[str, Any]:
    query = """
        SELECT current_setting('server_version') AS version,
               current_setting('shared_buffers') AS shared_buffers,
               pg_database_size(current_database()) AS bytes,
               (SELECT count(*) FROM forge.interactions) AS interactions,
               (SELECT count(*) FROM forge.interaction_events) AS events,
               (SELECT count(*) FROM forge.stages) AS stages"""
    with engine.connect() as connection:
        return dict(connection.execute(sa.text(query)).mappings().one())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=1_000_000, help="interactions in the store")
    parser.add_argument("--work", type=int, default=60_000, help="of them to claim and commit")
    parser.add_argument(
        "--workers", type=int, default=WORKERS, help="threads, each with a connection"
    )
    parser.add_argument("--output", type=Path, default=Path("bench"), help="folder of the JSON")
    arguments = parser.parse_args()
    result = measure(arguments.rows, arguments.work, _say, arguments.workers)
    arguments.output.mkdir(exist_ok=True)
    path = arguments.output / f"scale-{arguments.rows}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    _say(f"written: {path}")


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
