"""Five models whose interactions come in turns A B C D E A B ...: five loads, whatever fits."""

from contextlib import nullcontext
from pathlib import Path

import pytest
import sqlalchemy as sa

from forge_assets.interactions.budget import Budget
from forge_assets.interactions.wave import WaveHooks, run_wave
from resources.gpu.model_cache import ModelCache
from resources.gpu.model_config import ModelConfig
from tests.interactions.test_wave import planned, step

MODELS = "abcde"


@pytest.mark.parametrize("fit", [2, 5])
def test_each_model_is_loaded_once(
    postgres_engine: sa.Engine, llama_folder: Path, tmp_path: Path, fit: int
) -> None:
    config = ModelConfig(source=str(llama_folder), dtype="float32", device="cpu")
    probe = ModelCache(tmp_path)
    probe.get("probe", config)
    cache = ModelCache(tmp_path, budget=int((fit + 0.5) * probe.loads[0].bytes))
    probe.close()
    steps = [
        step(f"step_{key}", key, generate={"max_new_tokens": 2}, output={"min_chars": 0})
        for key in MODELS
    ]
    stage = planned(postgres_engine, steps, [f"text {n}" for n in range(7)])
    hooks = WaveHooks(
        engine=lambda key: cache.get(key, config, later=list(stage.store.open_models(stage.scope))),
        last_batches=lambda model: nullcontext(),
        left=lambda model, made, seconds: None,
        resident=cache.resident,
        heartbeat=lambda: None,
        breach=lambda: None,
        progress=lambda model, tally: None,
        waiting=lambda work: None,
        reclaim_dead=lambda: 0,
        group_wait=600.0,
        awaited=lambda: stage.order().steps,
        moved=lambda: None,
        pause=lambda seconds: None,
        budget=Budget(),
    )
    outcome = run_wave(stage.store, stage.order(), hooks)
    assert outcome.tally.finished == 7 * len(MODELS)
    assert sorted(load.model for load in cache.loads) == sorted(MODELS)
    assert cache.evictions == len(MODELS) - fit
    cache.close()
