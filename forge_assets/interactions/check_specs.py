"""The asset checks as the definitions declare them."""

import warnings

import dagster as dg

from forge_assets.workflow.spec import Workflow

RESULTS_CHECKS = {
    "rejection_rate": "Rejected of attempted interactions stay under the limit.",
    "error_rate": "Failed of attempted interactions stay under the limit.",
    "throughput": "Finished per minute of working time reach the target.",
    "nothing_lost": "Every subject of the stage has every step ended, in its current version.",
    "success_rate": "Completed of attempted interactions; warns only.",
}
_WARNS_ONLY = {"success_rate"}
STEP_CHECKS = {
    "rejection_rate": "Rejected of attempted interactions of this step; shown, not blocking.",
    "error_rate": "Failed of attempted interactions of this step; shown, not blocking.",
}


def results_specs(
    asset: dg.AssetKey, partitions: dg.PartitionsDefinition
) -> list[dg.AssetCheckSpec]:
    """The checks that gate the next stage. All but the warning block."""
    return [
        _spec(asset, partitions, name, description, blocking=name not in _WARNS_ONLY)
        for name, description in RESULTS_CHECKS.items()
    ]


def step_specs(workflow: Workflow, partitions: dg.PartitionsDefinition) -> list[dg.AssetCheckSpec]:
    return [
        _spec(dg.AssetKey([workflow.name, step.name]), partitions, name, description)
        for step in workflow.steps
        for name, description in STEP_CHECKS.items()
    ]


def _spec(
    asset: dg.AssetKey,
    partitions: dg.PartitionsDefinition,
    name: str,
    description: str,
    blocking: bool = False,
) -> dg.AssetCheckSpec:
    """A check per partition. Dagster warns at every load that this is a preview; only that is hushed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Specifying a partitions_def on an AssetCheckSpec")
        return dg.AssetCheckSpec(
            name,
            asset=asset,
            description=description,
            blocking=blocking,
            partitions_def=partitions,
        )
