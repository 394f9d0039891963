"""`forge run` and `forge retry`: the Dagster materialization of a stage, told in a few lines."""

import json
from dataclasses import dataclass
from typing import Any

from forge_assets.cli.exit_codes import INTERRUPTED
from forge_assets.cli.open import open_store, out, plan_of, tell
from forge_assets.console import on_terminal
from forge_assets.project import WorkflowPlan
from forge_assets.stage_checks import NOTHING
from forge_assets.stages import Stage
from resources.errors import ConfigurationError, Refusal
from resources.interaction import Status
from resources.interaction_store import InteractionStore


@dataclass(frozen=True)
class Ended:
    """How the materialization ended. ``sentence`` says why it did not succeed."""

    run_id: str
    success: bool
    interrupted: bool
    sentence: str | None
    exit_code: int
    checks: list[dict[str, Any]]


def run_stage(
    workflow: str | None,
    stage_key: str,
    max_subjects: int | None,
    max_interactions: int | None,
    workers: int | None,
    as_json: bool,
) -> int:
    plan = plan_of(workflow)
    stage = plan.project.stage(stage_key)
    given = {
        "max_subjects": max_subjects,
        "max_interactions": max_interactions,
        "workers": workers,
    }
    config = {name: value for name, value in given.items() if value is not None}
    return _materialize_and_tell(plan, stage, config, as_json)


def retry_stage(
    workflow: str | None, stage_key: str, status: str, step: str | None, as_json: bool
) -> int:
    if status not in (Status.FAILED, Status.REJECTED, Status.COMPLETED):
        raise ConfigurationError(f"--status {status}: write failed, rejected or completed")
    plan = plan_of(workflow)
    stage = plan.project.stage(stage_key)
    if step is not None and step not in plan.versions:
        known = ", ".join(plan.versions)
        raise ConfigurationError(
            f"--step {step}: no such step in {plan.workflow.name}; it has {known}"
        )
    from forge_assets.workflow.plan import advance, descendants
    from resources.database import open_engine

    store = InteractionStore(open_engine())
    _refuse_what_would_be_refused(plan, stage, store)
    scope = plan.project.scope(plan.workflow, stage)
    # An edited workflow first retires what it made stale, so that no child is renewed alone.
    store.plan_stage(scope, plan.steps, lambda states: advance(plan.workflow, states))
    count = store.retry(
        scope,
        status=Status(status),
        step=step,
        descendants=descendants(plan.workflow),
        planned=plan.steps,
    )
    tell(
        f"{count} interactions are pending again, descendants included"
        if count
        else f"{stage.key} holds no {status} interactions to retry"
    )
    return _materialize_and_tell(plan, stage, {}, as_json)


def _refuse_what_would_be_refused(
    plan: WorkflowPlan, stage: Stage, store: InteractionStore
) -> None:
    """The errors of the run that follows, before anything is changed for it."""
    import dagster as dg

    from forge_assets.gate import Refuse
    from forge_assets.interactions.ingest import check_fields
    from forge_assets.interactions.inputs import find_weights
    from forge_assets.interactions.stage_gate import StageGate
    from resources.dagster_storage import require_forge_instance
    from resources.database import open_engine

    find_weights(plan.project)
    check_fields(plan.workflow, store.field_names(plan.project.config.dataset))
    with dg.DagsterInstance.get() as instance:
        require_forge_instance(instance)
        decision = StageGate(plan, stage, open_engine(), store, instance, "retry", tell).decide()
    if isinstance(decision, Refuse):
        raise Refusal(decision.reason)


def _materialize_and_tell(
    plan: WorkflowPlan, stage: Stage, config: dict[str, Any], as_json: bool
) -> int:
    with on_terminal(tell):
        ended = materialize(plan, stage, config)
    row = _row(plan, stage)
    if as_json:
        out(json.dumps({"run_id": ended.run_id, "checks": ended.checks, **row}, indent=2))
    elif any(check["asset"].endswith("/results") for check in ended.checks):
        _show_checks(ended.checks, row)
    if ended.interrupted:
        tell(f"{stage.key} {row['verdict']}: stopped; the same command goes on where it stopped")
        return INTERRUPTED
    if ended.sentence:
        tell(f"forge: {ended.sentence}")
        if ended.checks and not as_json:
            _why(plan, stage)
        return ended.exit_code
    if not as_json:
        _suggest(plan, stage, row)
    return 0


def materialize(plan: WorkflowPlan, stage: Stage, config: dict[str, Any]) -> Ended:
    """One run of the stage with everything upstream, on the instance of DAGSTER_HOME."""
    import dagster as dg

    from forge_assets.definitions import defs
    from forge_assets.interactions import dagster_runs
    from forge_assets.interactions.stage_selection import stage_selection

    name = plan.workflow.name
    run_config: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    if config:
        run_config["ops"] = {f"{name}__wave": {"config": config}}
    with dagster_runs.interruptible(), dg.DagsterInstance.get() as instance:
        job = defs.resolve_implicit_global_asset_job_def()
        try:
            result = job.execute_in_process(
                instance=instance,
                partition_key=stage.key,
                asset_selection=stage_selection(plan),
                run_config=run_config,
                raise_on_error=False,
            )
        except dagster_runs.INTERRUPTIONS:
            return Ended("", False, True, None, INTERRUPTED, [])
        checks = [_check(evaluation) for evaluation in result.get_asset_check_evaluations()]
        sentence, code = dagster_runs.why_failed(result)
        if sentence and (failed := _failed_checks(checks)):
            sentence = f"{stage.key} failed: {failed}"
        interrupted = dagster_runs.was_interrupted(result)
        return Ended(result.run_id, result.success, interrupted, sentence, code, checks)


def _failed_checks(checks: list[dict[str, Any]]) -> str:
    """What the blocking checks that failed found; empty when none did."""
    failed = [check for check in checks if check["blocking"] and not check["passed"]]
    return "; ".join(f"{check['check']} {check['description']}" for check in failed)


def _check(evaluation: Any) -> dict[str, Any]:
    return {
        "asset": evaluation.asset_key.to_user_string(),
        "check": evaluation.check_name,
        "passed": evaluation.passed,
        "severity": evaluation.severity.value,
        "blocking": bool(evaluation.blocking),
        "description": evaluation.description,
    }


def _row(plan: WorkflowPlan, stage: Stage) -> dict[str, Any]:
    from forge_assets.interactions.status import stage_counts, stage_row
    from resources.database import open_engine

    for counts in stage_counts(plan, InteractionStore(open_engine())):
        if counts.partition == stage.key:
            return stage_row(plan.project, counts)
    raise AssertionError(f"{stage.key} is a stage of the project")


def _show_checks(checks: list[dict[str, Any]], row: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{row['partition']}: {row['verdict']}", title_justify="left")
    for heading in ("check", "", "what was measured"):
        table.add_column(heading)
    for check in checks:
        if check["asset"].endswith("/results"):
            mark = "passed" if check["passed"] else "FAILED" if check["blocking"] else "warning"
            table.add_row(check["check"], mark, check["description"])
    Console().print(table)
    for check in checks:
        step = check["asset"].rpartition("/")[2]
        if step != "results" and not check["passed"]:
            out(f"warning: step {step}: {check['check']} {check['description']}")
        elif (
            step != "results" and check["description"] == NOTHING and check["check"] == "error_rate"
        ):
            out(f"warning: step {step}: {NOTHING}, all its interactions were skipped")


def _why(plan: WorkflowPlan, stage: Stage) -> None:
    """The most frequent class of what was rejected or failed, and where the rest stands."""
    failures = open_store().failures_by_class(plan.project.scope(plan.workflow, stage))
    if failures:
        most = max(failures, key=lambda failure: failure.count)
        reason = " ".join(most.message.split())[:200]
        out(f"most:  {most.count} {most.status} as {most.error_class} (step {most.step}): {reason}")
    out(f"look:  forge report {plan.workflow_option}--stage {stage.key}")


def _suggest(plan: WorkflowPlan, stage: Stage, row: dict[str, Any]) -> None:
    """The next command, by where the stage stands."""
    stages = plan.project.stages
    position = stages.index(stage)
    if row["verdict"] == "incomplete":
        out(
            f"{stage.key} is incomplete; go on with:  forge run {plan.workflow_option}--stage {stage.key}"
        )
    elif (
        position + 1 < len(stages)
        and open_store().subject_count(plan.project.config.dataset) > stage.end
    ):
        out(f"next:  forge run {plan.workflow_option}--stage {stages[position + 1].key}")
    else:
        out("all subjects are done")
    out(f"look:  forge report {plan.workflow_option}--stage {stage.key}")
