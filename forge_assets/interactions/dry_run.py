"""What a run of a stage would do: interactions, groups, loads, memory, time. Generates nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from forge_assets.interactions.engine_choice import EngineChooser
from forge_assets.interactions.ingest import SourceFacts, check_fields, look_at_subjects
from forge_assets.interactions.inputs import present_weights
from forge_assets.interactions.status import stage_counts
from forge_assets.project import WorkflowPlan, naming_forge_yaml
from forge_assets.stages import Stage
from forge_assets.workflow.template import fixed_text_behind
from resources.errors import ConfigurationError
from resources.gpu.devices import probe
from resources.gpu.engines.opening import require_engine
from resources.gpu.memory_need import MemoryNeed, memory_need
from resources.interaction_store import InteractionStore
from resources.stage_counts import StageCounts

ENGINES = "engines"
"""What a prediction rests on where every engine was measured, in place of a stage."""
_WIDTH = {"float32": 4, "bfloat16": 2, "float16": 2, "auto": 4}
"""Bytes a parameter; auto may turn out to be float32."""


@dataclass(frozen=True)
class Group:
    """Interactions that may share a forward pass."""

    model: str
    steps: tuple[str, ...]
    at_most: int
    """Branches that are not taken make it fewer."""
    answers: int
    """As many as the branches of the stage before let one expect."""
    engine: str
    engine_reason: str
    seconds: float | None
    """Predicted from what the engine took before, its start included; None before it was measured."""
    memory_bytes: int | None
    """Of the model's parameters; None until the weights are converted, or at a server."""
    working_bytes: int | None
    """Of keys and values, and of what a batch is computed in."""
    memory_seen: int | None
    """The most that the engine was seen to take for it before."""
    server: str | None = None
    """host:port of the server that holds the model."""


@dataclass(frozen=True)
class DryRun:
    """The answer of `forge plan`."""

    partition: str
    subjects: int
    interactions_at_most: int
    done: int
    groups: tuple[Group, ...]
    loads: int
    seconds: float | None
    """From what the engines took before, else from the rate of the stages that ran."""
    measured_on: str | None
    as_last_read: bool
    """The subjects are those of the source's last reading, not of the source as it is now."""
    warnings: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def dry_run(plan: WorkflowPlan, stage: Stage, store: InteractionStore) -> DryRun:
    """ConfigurationError when the plan does not build."""
    with naming_forge_yaml(plan.project.config):
        for model in plan.models:
            require_engine(model, plan.project.config.models[model])
    facts = look_at_subjects(plan.project, store)
    check_fields(plan.workflow, facts.fields)
    counts = stage_counts(plan, store)
    mine = next(row for row in counts if row.partition == stage.key)
    subjects = mine.subjects or _in_range(facts, stage)
    left = subjects * len(plan.steps) - mine.ended
    groups = _groups(plan, subjects, store, stage)
    seconds, measured_on = _prediction(groups, counts, left)
    return DryRun(
        partition=stage.key,
        subjects=subjects,
        interactions_at_most=left,
        done=mine.ended,
        groups=groups,
        loads=sum(group.server is None for group in groups),
        seconds=seconds,
        measured_on=measured_on,
        as_last_read=facts.as_last_read,
        warnings=_warnings(plan),
    )


def _warnings(plan: WorkflowPlan) -> tuple[str, ...]:
    """Prompts whose order makes every subject's prompt be computed whole."""
    found = [(step, fixed_text_behind(step.prompt)) for step in plan.ordered]
    return tuple(
        f"step {step.name}: {behind[0]} characters of fixed text stand behind {behind[1].text}; put"
        " them before it, then a whole batch computes them once"
        for step, behind in found
        if behind
    )


def _in_range(facts: SourceFacts, stage: Stage) -> int:
    return max(0, min(facts.subjects, stage.end) - stage.first)


def _groups(
    plan: WorkflowPlan, subjects: int, store: InteractionStore, stage: Stage
) -> tuple[Group, ...]:
    """By model, with the steps that have something left; a model that has not has no group."""
    done = store.ended_by_step(plan.project.scope(plan.workflow, stage), plan.versions)
    chooser = EngineChooser(plan, stage, store)
    groups = []
    for model in plan.models:
        names = [step.name for step in plan.ordered if step.model == model]
        left = {name: subjects - done.get(name, 0) for name in names}
        left = {name: count for name, count in left.items() if count > 0}
        if left:
            groups.append(_group(plan, model, left, chooser))
    return tuple(groups)


def _group(
    plan: WorkflowPlan, model: str, left: Mapping[str, int], chooser: EngineChooser
) -> Group:
    config = plan.project.config.models[model]
    need = None if config.served else _memory(plan, model)
    choice = chooser.choose(model, lambda: left)
    return Group(
        model=model,
        steps=tuple(left),
        at_most=sum(left.values()),
        answers=sum(chooser.answers_ahead(model, left).values()),
        engine=choice.engine,
        engine_reason=choice.reason,
        seconds=choice.forecast.seconds if choice.forecast else None,
        memory_bytes=need.weights if need else None,
        working_bytes=need.keys_values + need.workspace if need else None,
        memory_seen=chooser.memory_seen(model),
        server=config.host if config.served else None,
    )


def _memory(plan: WorkflowPlan, model: str) -> MemoryNeed | None:
    try:
        weights = present_weights(plan.project, model)
    except ConfigurationError:  # the pre-flight and the run say it
        return None
    config = plan.project.config.models[model]
    on_gpu = config.device != "cpu" and bool(probe(config.device).devices)
    return memory_need(weights, config, _WIDTH[config.dtype], on_gpu) if weights else None


def _prediction(
    groups: Sequence[Group], counts: list[StageCounts], left: int
) -> tuple[float | None, str | None]:
    """Seconds for what is left: of the engines, else at the rate of the latest stage that worked."""
    predicted = [group.seconds for group in groups if group.seconds is not None]
    if groups and len(predicted) == len(groups):
        return sum(predicted), ENGINES
    for row in reversed(counts):
        if row.worked and row.working_seconds:
            return left * row.working_seconds / row.worked, row.partition
    return None, None
