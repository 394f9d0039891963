"""The code location: assembles, nothing else."""

import dagster as dg

from forge_assets.interactions.assets import build_assets
from forge_assets.project import load_project
from resources.gpu.resource import GpuResource

defs = dg.Definitions(
    assets=build_assets(load_project()),
    resources={"gpu": GpuResource()},
    # One process holds the models: every step of a run shares them.
    executor=dg.in_process_executor,
)
