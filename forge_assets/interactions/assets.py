"""The assets of the interactions half: thin decorators over stage_run, ingest and the checks."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from forge_assets.config import MAX_WORKERS
from forge_assets.dagster_words import one_sentence, say
from forge_assets.interactions import check_specs
from forge_assets.project import Project, WorkflowPlan
from forge_assets.workflow.spec import Step, Workflow
from resources.errors import Refusal
from resources.gpu.resource import GpuResource

if TYPE_CHECKING:
    from forge_assets.interactions.stage_run import StageRun

SUBJECTS = dg.AssetKey("subjects")
MODEL_WEIGHTS = dg.AssetKey("model_weights")


class StageConfig(dg.Config):
    """``max_…`` ends a run early; what is left stays pending and the stage incomplete. ``workers``
    claim at once what servers do."""

    max_subjects: int | None = Field(default=None, ge=1)
    max_interactions: int | None = Field(default=None, ge=1)
    workers: int | None = Field(default=None, ge=1, le=MAX_WORKERS)


def build_assets(project: Project) -> list[dg.AssetsDefinition]:
    """Every asset of the interactions half."""
    partitions = dg.StaticPartitionsDefinition([stage.key for stage in project.stages])
    assets = [build_subjects(project), build_model_weights(project)]
    for workflow in project.workflows:
        plan = WorkflowPlan(project, workflow)
        assets += [
            build_gate(plan, partitions),
            build_steps(plan, partitions),
            build_results(plan, partitions),
        ]
    return assets


def build_subjects(project: Project) -> dg.AssetsDefinition:
    source = project.config.subjects.source

    @dg.asset(
        key=SUBJECTS,
        group_name="inputs",
        kinds={"postgres", "table"},
        description=f"The records that go through the workflows, from `{source}`. Ordinals are"
        " only ever appended; a changed record marks its interactions stale.",
    )
    def subjects(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        from forge_assets.interactions.inputs import materialize_subjects

        with one_sentence():
            return materialize_subjects(project, context.instance, context.run_id, say(context))

    return subjects


def build_model_weights(project: Project) -> dg.AssetsDefinition:
    @dg.asset(
        key=MODEL_WEIGHTS,
        # Only for the order: a configuration that is refused there converts nothing here.
        deps=[SUBJECTS],
        group_name="inputs",
        kinds={"huggingface"},
        op_tags={"dagster/priority": "-1"},
        description="Every model that a workflow uses, converted once to safetensors in the cache.",
    )
    def model_weights(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        from forge_assets.interactions.inputs import materialize_weights

        with one_sentence():
            return materialize_weights(project, context.run_id, say(context))

    return model_weights


def build_gate(plan: WorkflowPlan, partitions: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    name = plan.workflow.name

    @dg.asset(
        key=[name, "gate"],
        deps=[SUBJECTS],
        group_name=name,
        kinds={"postgres"},
        partitions_def=partitions,
        # Not made for a stage that a backfill leaves out.
        output_required=False,
        description="Opens when the checks of the stage before have passed; waits while it runs.",
    )
    def gate(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
        with one_sentence(), stage_run(plan, context) as run:
            if run.enter():
                yield dg.MaterializeResult(metadata={"stage": run.stage.key})

    return gate


def build_steps(plan: WorkflowPlan, partitions: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    """One asset per step, one operation for all of them: the wave goes across steps."""
    workflow = plan.workflow

    @dg.multi_asset(
        name=f"{workflow.name}__wave",
        specs=[step_spec(workflow, step, partitions) for step in plan.ordered],
        check_specs=check_specs.step_specs(workflow, partitions),
        can_subset=True,
    )
    def wave(
        context: dg.AssetExecutionContext, config: StageConfig, gpu: GpuResource
    ) -> Iterator[dg.MaterializeResult]:
        from forge_assets.interactions import checks
        from forge_assets.interactions.stage_run import Limited

        limited = Limited(config.max_subjects, config.max_interactions)
        steps = frozenset(key.path[1] for key in context.selected_asset_keys)
        with one_sentence(), stage_run(plan, context) as run:
            if not run.enter():
                return
            if results_selected(context, workflow):
                run.name_left_out(steps)
            outcome = run.work(steps, limited, gpu, config.workers)
            if outcome.halted:
                raise Refusal(
                    f"{run.stage.key} stopped: {outcome.halted}; everything committed is kept,"
                    " run the same command when the machine is well"
                )
            if limited and (left := run.unfinished()):
                run.leave("cut_short", f"{left} interactions are left")
                run.say(f"{run.stage.key} incomplete: {left} interactions are left")
                return
            selected = context.selected_asset_check_keys
            yield from checks.step_results(run, steps, selected, outcome.cache)
            if not results_selected(context, workflow):
                run.leave("finished")

    return wave


def build_results(plan: WorkflowPlan, partitions: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    name = plan.workflow.name

    @dg.asset(
        key=[name, "results"],
        deps=[dg.AssetKey([name, step.name]) for step in plan.ordered],
        group_name=name,
        kinds={"parquet", "markdown", "matplotlib"},
        partitions_def=partitions,
        check_specs=check_specs.results_specs(dg.AssetKey([name, "results"]), partitions),
        description="One row per subject with every step's outcome, and the report of the stage"
        " with its plots. Written for a failed stage too: that is the one to look into. Its metadata"
        " holds plots, tables by step and model, and for every subject that ended badly the command"
        " that traces it.",
    )
    def results(
        context: dg.AssetExecutionContext,
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        from forge_assets.interactions import checks
        from forge_assets.interactions.clerk import patiently
        from forge_assets.interactions.dagster_runs import tell_checks_again
        from forge_assets.interactions.forgetting import forget
        from forge_assets.interactions.results import write_results

        with one_sentence(), stage_run(plan, context) as run:
            written = patiently(lambda: write_results(run))
            outcomes = patiently(lambda: checks.results_checks(run))
            patiently(lambda: run.leave("finished"))
            yield written
            for check in outcomes:
                warns = check.severity == dg.AssetCheckSeverity.WARN
                mark = "passed" if check.passed else "warning" if warns else "FAILED"
                context.log.info(f"{check.check_name} {mark}: {check.description}")
                yield check
            tell_checks_again(run.instance, run.run_id, run.stage.key)
            forget(run)

    return results


def step_spec(workflow: Workflow, step: Step, partitions: dg.PartitionsDefinition) -> dg.AssetSpec:
    """The asset of a step. It is not produced when the run is cut short."""
    parents: Sequence[dg.AssetKey] = [dg.AssetKey([workflow.name, need]) for need in step.needs]
    if not parents:
        parents = [dg.AssetKey([workflow.name, "gate"]), MODEL_WEIGHTS]
    return dg.AssetSpec(
        dg.AssetKey([workflow.name, step.name]),
        deps=parents,
        skippable=True,
        group_name=workflow.name,
        kinds={"llm", "postgres"},
        description=f"Step `{step.name}` on model `{step.model}`.\n\n```\n{step.prompt.strip()}\n```",
        metadata={"model": step.model},
        partitions_def=partitions,
    )


def results_selected(context: dg.AssetExecutionContext, workflow: Workflow) -> bool:
    selection = context.run.asset_selection
    return selection is None or dg.AssetKey([workflow.name, "results"]) in selection


@contextmanager
def stage_run(plan: WorkflowPlan, context: dg.AssetExecutionContext) -> Iterator["StageRun"]:
    """The run of this step; an error closes it."""
    from forge_assets.interactions.opened_run import open_stage_run

    stage = plan.project.stage(context.partition_key)
    with open_stage_run(plan, stage, context.instance, context.run_id, say(context)) as run:
        yield run
