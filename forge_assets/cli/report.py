"""`forge report`: one stage in full, or all stages side by side."""

import json

from forge_assets.cli.open import open_store, out, plan_of, plans_of
from forge_assets.config import project_root
from forge_assets.interactions.machine_limits import limits_of
from forge_assets.interactions.report import (
    read_stage_report,
    stage_report_json,
    stage_report_markdown,
)
from forge_assets.interactions.stages_report import (
    read_baselines,
    stages_report_json,
    stages_report_markdown,
)
from forge_assets.interactions.status import stage_counts


def show(workflow: str | None, stage_key: str | None, as_json: bool) -> int:
    return _one(workflow, stage_key, as_json) if stage_key else _all(workflow, as_json)


def _one(workflow: str | None, stage_key: str, as_json: bool) -> int:
    plan = plan_of(workflow)
    store = open_store()
    config = plan.project.config
    stage = plan.project.stage(stage_key)
    counts = {row.partition: row for row in stage_counts(plan, store)}[stage.key]
    report = read_stage_report(
        store,
        plan.project.scope(plan.workflow, stage),
        counts,
        config.thresholds,
        limits_of(config),
    )
    if as_json:
        out(json.dumps(stage_report_json(report), indent=2))
    else:
        out(stage_report_markdown(report))
    return 0


def _all(workflow: str | None, as_json: bool) -> int:
    store = open_store()
    baselines = read_baselines(project_root() / "bench")
    data = {}
    for plan in plans_of(workflow):
        name, counts = plan.workflow.name, stage_counts(plan, store)
        thresholds = plan.project.config.thresholds
        if as_json:
            data[name] = stages_report_json(counts, thresholds, baselines)
        else:
            out(stages_report_markdown(name, counts, thresholds, baselines))
    if as_json:
        out(json.dumps({"workflows": data}, indent=2))
    return 0
