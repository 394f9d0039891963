"""The sensors of the launches half."""

import dagster as dg

from forge_assets.launches.diagnose_job import build_diagnose_job
from forge_assets.project import Project
from sensors.cloud_run_executions import build_cloud_run_execution_sensor
from sensors.stuck_agents import build_stuck_agent_sensor
from sensors.tick import TickTools
from sensors.vertex_jobs import build_vertex_job_sensor


def build_launch_sensors(project: Project) -> list[dg.SensorDefinition]:
    """Each with what it asks for: the job `diagnose_launch` comes with them."""
    tools = TickTools(project.config.cloud)
    return launch_sensors(tools, build_diagnose_job(project))


def launch_sensors(tools: TickTools, diagnose: dg.JobDefinition) -> list[dg.SensorDefinition]:
    return [
        build_vertex_job_sensor(tools, diagnose),
        build_cloud_run_execution_sensor(tools, diagnose),
        build_stuck_agent_sensor(tools),
    ]
