"""`forge bench`: every contestant, the four ways, and what Dagster adds, into one record."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from forge_assets.bench.contest import hold_contest
from forge_assets.bench.contestants import SOURCE
from forge_assets.bench.machine import describe_machine, record_name
from forge_assets.bench.overhead import measure_overhead
from forge_assets.bench.record import Record
from forge_assets.bench.work import demo_work
from forge_assets.bench.workers import measure_four_ways
from forge_assets.config import project_root
from resources.gpu.dtype_probe import choose_device, choose_dtype
from resources.gpu.model_config import Dtype
from resources.gpu.weights import ensure_weights

_DTYPES: tuple[Dtype, ...] = ("bfloat16", "float32")


@dataclass(frozen=True)
class Extent:
    """How much is measured. ``few``: the rows that are also done one at a time, in every turn."""

    rows: int = 64
    few: int = 20
    new_tokens: int = 40
    repeats: int = 3


def run_bench(
    say: Callable[[str], None], extent: Extent = Extent(), folder: Path | None = None
) -> dict[str, Any]:
    """Measure, tell, and write the machine's record into ``bench/``; returns what its JSON holds."""
    record = measure(say, extent)
    name = record_name(record.machine)
    record.write(folder or project_root() / "bench", name)
    say(f"written: {name}.json and {name}.md")
    return record.as_json()


def measure(say: Callable[[str], None], extent: Extent) -> Record:
    machine = describe_machine()
    say(f"{machine['gpu'] or machine['cpu']}; {machine['threads']} threads")
    ensure_weights(SOURCE)  # The conversion is no part of any start-up.
    work = demo_work(extent.rows, extent.new_tokens)
    contests = [hold_contest(dtype, work, extent.few, extent.repeats, say) for dtype in _DTYPES]
    faster: Any = choose_dtype("auto", choose_device("auto")).name
    return Record(
        machine=machine,
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        work={
            "rows": extent.rows,
            "sequential_rows": extent.few,
            "new_tokens_at_most": extent.new_tokens,
            "repeats": extent.repeats,
        },
        contests=contests,
        four_ways=measure_four_ways(faster, work, extent.few, extent.repeats, say),
        overhead=measure_overhead(SOURCE, say, extent.repeats),
    )
