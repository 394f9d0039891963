"""The assets of one run of a stage: what `forge run` and the sensor both ask for."""

import dagster as dg

from forge_assets.interactions.assets import MODEL_WEIGHTS, SUBJECTS
from forge_assets.project import WorkflowPlan


def stage_selection(plan: WorkflowPlan) -> list[dg.AssetKey]:
    """A stage of the workflow with everything upstream."""
    name = plan.workflow.name
    keys = [dg.AssetKey([name, part]) for part in ("gate", *plan.versions, "results")]
    return [SUBJECTS, MODEL_WEIGHTS, *keys]
