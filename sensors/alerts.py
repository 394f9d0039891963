"""The sensors that tell people."""

import dagster as dg

from forge_assets.project import Project
from sensors.alert_tick import INTERVAL_SECONDS, AlertTools, alert_tools
from sensors.check_alerts import build_check_alert_sensor
from sensors.run_failures import build_run_failure_alert_sensor


def build_alert_sensors(
    project: Project, interval: int = INTERVAL_SECONDS
) -> list[dg.SensorDefinition]:
    """``interval``: seconds between two ticks."""
    return alert_sensors(alert_tools(project, interval))


def alert_sensors(tools: AlertTools) -> list[dg.SensorDefinition]:
    return [build_check_alert_sensor(tools), build_run_failure_alert_sensor(tools)]
