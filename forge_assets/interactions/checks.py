"""The results of the asset checks: the judgements of stage_checks.py with their worst examples."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import dagster as dg

from forge_assets.interactions.report import examples_markdown
from forge_assets.interactions.stage_run import StageRun
from forge_assets.stage_checks import CheckOutcome, check_stage, check_step
from resources.interaction import Status


def results_checks(run: StageRun) -> list[dg.AssetCheckResult]:
    """Every check of the stage over what the store counts now."""
    counts = run.gate.counts()[run.stage.key]
    asset = dg.AssetKey([run.plan.workflow.name, "results"])
    thresholds = run.plan.project.config.thresholds
    return [
        _result(asset, outcome, _examples(run, outcome.name))
        for outcome in check_stage(counts, thresholds)
    ]


def step_results(
    run: StageRun,
    steps: Collection[str],
    selected: Collection[dg.AssetCheckKey],
    cache: Mapping[str, Any],
) -> Iterator[dg.MaterializeResult]:
    """The materialization of each step with its own checks; ``cache``: what the run's loads took."""
    thresholds = run.plan.project.config.thresholds
    residencies = run.store.residencies_of_runs([run.run_id])
    counted = {counts.step: counts for counts in run.store.step_counts(run.scope)}
    # Dagster wants parents first; rows that were renewed no longer stand in that order.
    for step in run.plan.ordered:
        if step.name not in steps or step.name not in counted:
            continue
        counts = counted[step.name]
        asset = dg.AssetKey([run.plan.workflow.name, counts.step])
        checks = [
            _result(asset, outcome, _examples(run, outcome.name, counts.step))
            for outcome in check_step(counts, thresholds)
            if dg.AssetCheckKey(asset, outcome.name) in selected
        ]
        metadata: dict[str, Any] = {
            "model": counts.model,
            "completed": counts.completed,
            "rejected": counts.rejected,
            "failed": counts.failed,
            "skipped": counts.skipped,
            "attempted": counts.attempted,
            "prompt tokens": counts.prompt_tokens,
            "output tokens": counts.output_tokens,
        }
        if counts.p50_seconds is not None:
            metadata["seconds p50"] = round(counts.p50_seconds, 3)
        if cache:
            metadata["model cache"] = dg.MetadataValue.json(dict(cache))
        for stay in residencies:
            if step.name in stay.steps:
                metadata |= {"engine": stay.engine, "why this engine": stay.reason}
        yield dg.MaterializeResult(asset_key=asset, metadata=metadata, check_results=checks)


def _result(asset: dg.AssetKey, outcome: CheckOutcome, examples: str | None) -> dg.AssetCheckResult:
    metadata = {
        name: round(value, 6) if isinstance(value, float) else value
        for name, value in outcome.metadata.items()
        if value is not None
    }
    if examples:
        metadata["worst examples"] = dg.MetadataValue.md(examples)
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=outcome.name,
        passed=outcome.passed,
        severity=dg.AssetCheckSeverity.ERROR if outcome.blocking else dg.AssetCheckSeverity.WARN,
        description=outcome.description,
        metadata=metadata,
    )


def _examples(run: StageRun, check: str, step: str | None = None) -> str | None:
    """Three rows behind a rate, as Markdown; None where there are none."""
    status = {"rejection_rate": Status.REJECTED, "error_rate": Status.FAILED}.get(check)
    if status is None:
        return None
    rows = run.store.worst_examples(run.scope, status=status, step=step, limit=3)
    return examples_markdown(rows) if rows else None
