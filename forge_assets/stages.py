"""Stages: which subject ordinals a partition key stands for. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from forge_assets.config import BATCH_PREFIX, BatchSpec, StageSpec
from forge_assets.schema_errors import did_you_mean
from resources.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Stage:
    """A partition: the subjects with ordinals in [first, end)."""

    key: str
    first: int
    end: int
    workers: int | None = None
    """As forge.yaml says for it."""

    @property
    def size(self) -> int:
        return self.end - self.first

    @property
    def batch(self) -> bool:
        """One of the steady batches after the named stages."""
        return self.key.startswith(BATCH_PREFIX)


def build_stages(stages: Sequence[StageSpec], batches: BatchSpec) -> tuple[Stage, ...]:
    """The named stages, then the batches: disjoint ranges from 0, without gaps."""
    specs = [(spec.key, spec.subjects, spec.workers) for spec in stages]
    specs += [
        (f"{BATCH_PREFIX}{n:04d}", batches.size, batches.workers)
        for n in range(1, batches.count + 1)
    ]
    built: list[Stage] = []
    first = 0
    for key, size, workers in specs:
        built.append(Stage(key, first, first + size, workers))
        first += size
    return tuple(built)


def stage_named(stages: Sequence[Stage], key: str) -> Stage:
    """ConfigurationError naming the known stages when there is no such key."""
    for stage in stages:
        if stage.key == key:
            return stage
    raise ConfigurationError(
        f"unknown stage '{key}'{did_you_mean(key, [stage.key for stage in stages])}; "
        f"known stages: {_listed(stages)}"
    )


def previous_stage(stages: Sequence[Stage], stage: Stage) -> Stage | None:
    """The stage whose checks are this one's gate; None for the first."""
    position = list(stages).index(stage)
    return stages[position - 1] if position else None


def _listed(stages: Sequence[Stage]) -> str:
    named = [stage.key for stage in stages if not stage.batch]
    batches = [stage.key for stage in stages if stage.batch]
    if len(batches) > 2:
        batches = [f"{batches[0]} to {batches[-1]}"]
    return ", ".join(named + batches)
