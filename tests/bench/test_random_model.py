"""The GPU's benchmark with a tiny model on the processor: the work, not the time."""

import subprocess
import sys
from pathlib import Path

import pytest

from forge_assets.bench import gpu, random_model
from forge_assets.bench.cold import run_cold, since_start
from forge_assets.bench.random_model import Job, split, workload, write_model
from forge_assets.bench.random_runs import continuous, open_arena

JOBS = [Job([5, 6, 7, *range(20, 20 + n)], 3 + n % 4) for n in range(1, 8)]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(random_model.SHAPES, "tiny", (128, 64, 2, 16))
    monkeypatch.setattr(random_model, "_TOKENS", 128)
    return "tiny"


def test_the_work_is_the_same_everywhere() -> None:
    jobs = workload(500)
    assert sum(len(job.tokens) for job in jobs) == 369_239
    assert sum(job.output_tokens for job in jobs) == 80_844
    assert [len(part) for part in split(jobs, 3)] == [167, 167, 166]
    assert [job for part in split(jobs, 3) for job in part] == jobs


def test_all_contestants_make_every_token(tiny: str) -> None:
    found = gpu.measure(tiny, "cpu", JOBS)
    assert [one["name"] for one in found["contestants"]] == [
        "sequential generate",
        "static batches",
        "continuous batches, row by row",
    ]
    for one in found["contestants"]:
        assert one["output_tokens"] == sum(job.output_tokens for job in JOBS)
        assert one["valid"] is None
        assert one["projected"]


def test_a_row_that_repeats_itself_goes_on(tiny: str) -> None:
    """Without a head every token is the first of the vocabulary."""
    model = random_model.random_model(tiny, "cpu")
    model.lm_head.weight.data.zero_()
    job = Job([5, 6, 7], 200)
    assert continuous(open_arena(model), [job, job]) == 400


def test_a_cold_batch_reads_every_model_from_its_folder(tiny: str, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_model(tiny, tmp_path / name, "cpu")
        assert (tmp_path / name / "model.safetensors").exists()
    found = run_cold(tmp_path, ["one", "two"], "cpu", JOBS)
    assert [one.shape for one in found] == ["one", "two"]
    assert sum(one.interactions for one in found) == len(JOBS)
    assert sum(one.output_tokens for one in found) == sum(job.output_tokens for job in JOBS)
    assert found[0].ended < found[1].ended <= since_start()


def test_it_needs_neither_dagster_nor_a_database() -> None:
    code = (
        "import sys, forge_assets.bench.gpu, forge_assets.bench.cold\n"
        "import forge_assets.bench.random_runs\n"
        "print({'dagster', 'sqlalchemy', 'psutil'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
