"""Which engine runs each model of a stage: the configured one, else the one predicted to end first."""

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cached_property

from forge_assets.interactions.forecast import (
    EngineChoice,
    Forecast,
    choose_engine,
    forecast,
    mean_lengths,
)
from forge_assets.project import WorkflowPlan
from forge_assets.stages import Stage
from resources.gpu.devices import device_name
from resources.gpu.engines.opening import installed_engines
from resources.gpu.model_config import ModelConfig
from resources.interaction_store import InteractionStore, StepCounts
from resources.store_types import Residency

_STAGES_BACK = 3


class EngineChooser:
    """For one stage; each model is decided once, by what was measured before."""

    def __init__(self, plan: WorkflowPlan, stage: Stage, store: InteractionStore) -> None:
        self._plan = plan
        self._stage = stage
        self._store = store
        self._chosen: dict[str, EngineChoice] = {}

    def choose(self, model: str, left: Callable[[], Mapping[str, int]]) -> EngineChoice:
        """``left`` tells the interactions that have not ended, by step; asked when first needed."""
        if model not in self._chosen:
            self._chosen[model] = self._decide(model, self.answers_ahead(model, left()))
        return self._chosen[model]

    def answers_ahead(self, model: str, left: Mapping[str, int]) -> dict[str, int]:
        """Answers of the model that a run will ask for: without what branches will skip."""
        return {
            step.name: round(left[step.name] * self._taken.get(step.name, 1.0))
            for step in self._plan.ordered
            if step.model == model and left.get(step.name)
        }

    def lengths(self) -> dict[str, float]:
        """Output tokens of an answer by step, as earlier runs had them."""
        found: dict[str, float] = {}
        for model in self._plan.models:
            for engine in self._candidates(self._config(model)):
                found = mean_lengths(self._history(model, engine)) | found
        return found

    def memory_seen(self, model: str) -> int | None:
        """Bytes: the most that any engine for the model was seen to take."""
        engines = self._candidates(self._config(model))
        stays = [stay for engine in engines for stay in self._history(model, engine)]
        return max((stay.memory_seen or 0 for stay in stays), default=0) or None

    def definition(self, model: str) -> str:
        """The hash of what the model is: what was measured of another definition says nothing."""
        text = json.dumps(self._plan.project.config.model_definitions[model], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def device(self, model: str) -> str:
        config = self._config(model)
        return config.url or "" if config.served else device_name(config.device)

    def _decide(self, model: str, work: Mapping[str, int]) -> EngineChoice:
        candidates = self._candidates(self._config(model))
        found: dict[str, Forecast | None] = {
            engine: forecast(engine, self._history(model, engine), work) for engine in candidates
        }
        if self._config(model).engine != "auto":
            return EngineChoice(candidates[0], "configured", found[candidates[0]])
        return choose_engine(candidates, found)

    def _candidates(self, config: ModelConfig) -> list[str]:
        return installed_engines(config) if config.engine == "auto" else [config.engine]

    def _history(self, model: str, engine: str) -> list[Residency]:
        return self._store.residencies_of_model(self.definition(model), self.device(model), engine)

    def _config(self, model: str) -> ModelConfig:
        return self._plan.project.config.models[model]

    @cached_property
    def _taken(self) -> dict[str, float]:
        """Share of a step's interactions that were generated, in the latest of the three stages before
        this one that generated any."""
        stages = self._plan.project.stages
        here = stages.index(self._stage)
        for stage in reversed(stages[max(0, here - _STAGES_BACK) : here]):
            counts = self._store.step_counts(self._plan.project.scope(self._plan.workflow, stage))
            if any(row.attempted for row in counts):
                return {row.step: _taken(row) for row in counts}
        return {}


def _taken(row: StepCounts) -> float:
    ended = row.attempted + row.skipped
    return row.attempted / ended if ended else 1.0
