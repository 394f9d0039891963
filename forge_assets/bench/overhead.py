"""What `dagster asset materialize` adds around the work, measured on a store of its own.

overhead = wall - (first claim -> last commit) - import of torch and transformers, for the second
stage of a small workflow: the store is warm, the weights are converted, Dagster's tables exist.
The baseline, in turns with it: the same command for one empty asset with one check.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import yaml

from forge_assets.bench.own_database import own_database
from forge_assets.config import project_root
from resources.database import create_engine
from resources.errors import InfrastructureError

_SUBJECTS = 8
_IMPORTS = "from resources.gpu.hf import import_transformers; import_transformers()"
_BARE = """
import dagster as dg

@dg.asset(check_specs=[dg.AssetCheckSpec("ok", asset="one")])
def one():
    yield dg.MaterializeResult()
    yield dg.AssetCheckResult(passed=True)

defs = dg.Definitions(assets=[one], executor=dg.in_process_executor)
"""
_COMMAND = [sys.executable, "-m", "dagster", "asset", "materialize"]
_SPAN = """
SELECT extract(epoch FROM last_commit - first_claim)::float FROM forge.runs
WHERE partition = 'second' ORDER BY registered_at DESC LIMIT 1"""


@dataclass(frozen=True)
class Overhead:
    """Seconds. ``overhead`` is what is left of ``wall`` for Dagster, the store and start-up;
    ``bare`` is the wall time of one empty asset with one check."""

    wall: float
    working: float
    imports: float
    overhead: float
    bare: float
    repeats: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def measure_overhead(source: str, say: Callable[[str], None], repeats: int = 3) -> Overhead:
    """The median of ``repeats`` runs; ``source`` names the model's weights."""
    found = [_measure_once(source) for _ in range(repeats)]
    for overhead in found:
        say(
            f"overhead {overhead.overhead:.1f} s = wall {overhead.wall:.1f} s"
            f" - working {overhead.working:.1f} s - imports {overhead.imports:.1f} s;"
            f" bare Dagster {overhead.bare:.1f} s"
        )
    found.sort(key=lambda overhead: overhead.overhead)
    return replace(found[repeats // 2], repeats=repeats)


def _measure_once(source: str) -> Overhead:
    with tempfile.TemporaryDirectory(prefix="forge-bench-") as folder, own_database() as url:
        environment = {
            **os.environ,
            "DAGSTER_HOME": str(project_root()),
            "FORGE_CONFIG": str(_write_project(Path(folder), source)),
            "FORGE_DATABASE_URL": url,
        }
        (Path(folder) / "bare.py").write_text(_BARE)
        _materialize(environment, "first")
        imports = _timed([sys.executable, "-c", _IMPORTS], environment)
        wall = _materialize(environment, "second")
        bare = _timed([*_COMMAND, "-f", f"{folder}/bare.py", "--select", "one"], environment)
        engine = create_engine(url, poolclass=sa.NullPool)
        with engine.connect() as connection:
            working = float(connection.execute(sa.text(_SPAN)).scalar_one())
    return Overhead(wall, working, imports, wall - working - imports, bare, repeats=1)


def _write_project(folder: Path, source: str) -> Path:
    lines = [
        json.dumps({"key": f"s{n}", "text": f"The number {n} follows {n - 1}."})
        for n in range(_SUBJECTS)
    ]
    (folder / "subjects.jsonl").write_text("\n".join(lines) + "\n")
    step = {
        "name": "say",
        "model": "small",
        "prompt": "Repeat: {text}",
        "generate": {"max_new_tokens": 16},
    }
    (folder / "workflow.yaml").write_text(yaml.safe_dump({"workflow": "bench", "steps": [step]}))
    stages = [{"key": key, "subjects": _SUBJECTS // 2} for key in ("first", "second")]
    config = {
        "subjects": {"source": "jsonl", "path": "subjects.jsonl", "key": "key"},
        "models": {"small": {"source": source}},
        "workflows": ["workflow.yaml"],
        "stages": stages,
        "batches": {"size": 1, "count": 0},
        "thresholds": {"per_minute": 0},
    }
    path = folder / "forge.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def _materialize(environment: dict[str, str], partition: str) -> float:
    select = ["--select", '+key:"bench/results"', "--partition", partition]
    return _timed([*_COMMAND, "-m", "forge_assets.definitions", *select], environment)


def _timed(command: list[str], environment: dict[str, str]) -> float:
    started = time.perf_counter()
    done = subprocess.run(
        command, env=environment, cwd=project_root(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        tail = " ".join(done.stderr.strip().splitlines()[-1:])
        raise InfrastructureError(
            f"the benchmark's command failed ({' '.join(command[:4])}): {tail}"
        )
    return time.perf_counter() - started
