"""How soon `forge launch` says what became of a launch.

``GRPC_VERBOSITY=NONE python -m tests.wire.launch_times`` prints the figures: the real command in a
process of its own, every answer of the fakes 80 ms late.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from resources.database import PROJECT_ROOT
from tests.wire import faults
from tests.wire.demo_cloud import REGION, newest_execution, world
from tests.wire.http_faults import latency
from tests.wire.runs import ExecutionLife
from tests.wire.server import FakeGoogle
from tests.wire.wandb_queues import NOBODY
from tests.wire.wandb_server import FakeWandb

LATENCY_SECONDS = 0.08
REPEATS = 5
DEATH_SECONDS = 8.0


def main() -> None:
    print(f"every answer {LATENCY_SECONDS * 1000:.0f} ms late; seconds")
    with world() as (google, wandb, environment):
        google.faults.add(faults.latency(LATENCY_SECONDS))
        wandb.faults.add(latency(LATENCY_SECONDS))
        launch(environment)
        seen = [_seen(google, environment) for _ in range(REPEATS)]
        print(f"job exists -> told, through the queue: {_shown(seen)}")
        direct = [launch(environment, "--direct")[1]["seconds"] for _ in range(REPEATS)]
        print(f"the whole of a direct launch, preflight included: {_shown(direct)}")
        died = [_died(google, wandb, environment) for _ in range(REPEATS)]
        print(
            f"launch -> told that the runner died {DEATH_SECONDS:g} s after its start: {_shown(died)}"
        )
        wandb.queues.life = NOBODY
        google.runs.life = ExecutionLife()
        waited, result = launch(environment)
        hops = {hop["station"]: hop["state"] for hop in result["hops"]}
        print(f"time-out: {result['outcome']} after {result['seconds']} s ({waited:.1f}), {hops}")


def _seen(google: FakeGoogle, environment: Mapping[str, str]) -> float:
    """From the moment the job is there to the end of the command's answer."""
    _, result = launch(environment)
    assert result["submitted"], result
    [job] = [job for job in google.jobs.all(REGION) if job.name == result["job_name"]]
    return float(result["told_at"] - job.create_time.timestamp())


def _died(google: FakeGoogle, wandb: FakeWandb, environment: Mapping[str, str]) -> float:
    for record in google.runs._records.values():
        record.life = ExecutionLife(ends=0.1)
    wandb.queues.life = NOBODY
    google.runs.life = ExecutionLife(runs=0.5, ends=DEATH_SECONDS, exit_code=1)
    before = len(google.runs._records)
    threading.Thread(target=_last_words, args=(google, before)).start()
    _, result = launch(environment)
    assert result["outcome"] == "runner_failed", result
    assert "is not supported" in result["reason"], result
    return float(result["seconds"])


def _last_words(google: FakeGoogle, before: int) -> None:
    while len(google.runs._records) == before:
        time.sleep(0.05)
    time.sleep(DEATH_SECONDS)
    said = 'wandb: ERROR 400 Machine type "a3-highgpu-1g" is not supported.'
    google.logs.add_text(datetime.now(UTC), said, newest_execution(google))


def launch(environment: Mapping[str, str], *options: str) -> tuple[float, dict[str, Any]]:
    """Seconds of the process until its answer, and the answer with the moment it came."""
    begun = time.monotonic()
    command = [str(Path(sys.executable).with_name("forge")), "launch", "--json", *options]
    process = subprocess.Popen(
        command,
        env={**os.environ, **environment},
        cwd=PROJECT_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    told, seconds = datetime.now(UTC).timestamp(), time.monotonic() - begun
    process.wait()
    return seconds, {**json.loads(line), "told_at": told}


def _shown(seconds: list[float]) -> str:
    middle = sorted(seconds)[len(seconds) // 2]
    return f"median {middle:.1f}, slowest {max(seconds):.1f} of {len(seconds)}"


if __name__ == "__main__":
    main()
