"""The code location: assembles, nothing else."""

import dagster as dg

from forge_assets.described_assets import described
from forge_assets.interactions.assets import build_assets
from forge_assets.launches.assets import build_launches
from forge_assets.launches.monitor_assets import build_monitor_assets
from forge_assets.project import load_project
from resources.gpu.resource import GpuResource
from sensors.alerts import build_alert_sensors
from sensors.launches import build_launch_sensors
from sensors.stage_progress import build_stage_progress_sensor

project = load_project()

defs = dg.Definitions(
    assets=described(
        [*build_assets(project), build_launches(project), *build_monitor_assets(project)], project
    ),
    sensors=[
        *build_launch_sensors(project),
        *build_alert_sensors(project),
        build_stage_progress_sensor(project),
    ],
    resources={"gpu": GpuResource()},
    # One process holds the models: every step of a run shares them.
    executor=dg.in_process_executor,
)
