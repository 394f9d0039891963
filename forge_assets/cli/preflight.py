"""`forge preflight`: GO or NO-GO for a stage."""

import json

from forge_assets.cli.open import open_store, out, plan_of
from forge_assets.interactions.dry_run import dry_run
from forge_assets.interactions.inputs import present_weights, server_state
from forge_assets.interactions.preflight import evaluate_preflight, weights_detail
from forge_assets.interactions.stage_run import StageRun
from forge_assets.interactions.status import stage_counts
from forge_assets.project import WorkflowPlan, naming_forge_yaml
from forge_assets.stage_checks import judge_stage
from forge_assets.stages import Stage, previous_stage
from resources.errors import ConfigurationError, ForgeError
from resources.interaction_store import InteractionStore


def show(workflow: str | None, stage_key: str | None, as_json: bool) -> int:
    import dagster as dg

    from resources.dagster_storage import require_forge_instance
    from resources.database import open_engine

    plan = plan_of(workflow)
    store = open_store()
    stage = plan.project.stage(stage_key) if stage_key else next_stage(plan, store)
    answer = dry_run(plan, stage, store)
    served = {model: plan.project.config.models[model].served for model in plan.models}
    with dg.DagsterInstance.get() as instance:
        require_forge_instance(instance)
        run = StageRun(plan, stage, open_engine(), store, instance, "preflight", out)
        before = previous_stage(plan.project.stages, stage)
        found = evaluate_preflight(
            stage.key,
            plan=f"at most {answer.interactions_at_most} interactions of {len(answer.groups)} models",
            plan_error=None if answer.subjects else "the stage holds no subjects",
            gate=run.gate.decide(answer.subjects),
            previous=before.key if before else None,
            weights={
                model: weights_state(plan, model) for model in plan.models if not served[model]
            },
            servers={model: server_says(plan, model) for model in plan.models if served[model]},
            machine=run.machine(),
        )
    if as_json:
        out(json.dumps(found.as_json(), indent=2))
    else:
        out("\n".join(found.lines()))
    return 0 if found.go else 1


def next_stage(plan: WorkflowPlan, store: InteractionStore) -> Stage:
    """The first stage that has not passed; the last one when all have."""
    thresholds = plan.project.config.thresholds
    for counts in stage_counts(plan, store):
        if not judge_stage(counts, thresholds).passed:
            return plan.project.stage(counts.partition)
    return plan.project.stages[-1]


def weights_state(plan: WorkflowPlan, model: str) -> str | ConfigurationError:
    """What there is of a model's weights, or the sentence that a run would end with."""
    try:
        with naming_forge_yaml(plan.project.config):
            return weights_detail(present_weights(plan.project, model))
    except ConfigurationError as error:
        return error


def server_says(plan: WorkflowPlan, model: str) -> str | ForgeError:
    """What a model's server says, or the sentence that a run would end with."""
    try:
        return server_state(plan.project, model)
    except ForgeError as error:
        return error
