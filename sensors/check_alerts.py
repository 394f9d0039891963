"""`check_alert_sensor`: people hear of failed asset checks, one message for a run.

A failed check fails no run unless it blocks, so no sensor of failed runs sees it.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import dagster as dg

from forge_assets.alerts.message import EndedRun, run_message
from forge_assets.alerts_config import AlertsConfig
from sensors.alert_tick import AlertTools
from sensors.run_ends import ended_runs, read_cursor
from sensors.tick import in_one_sentence

if TYPE_CHECKING:
    from resources.alert import Message


def check_messages(runs: Iterable[EndedRun], config: AlertsConfig) -> "list[Message]":
    """One for each run in which checks failed."""
    return [
        run_message(run, config.base_url)
        for run in runs
        if run.checks and (config.warnings or not run.only_warns)
    ]


def build_check_alert_sensor(tools: AlertTools) -> dg.SensorDefinition:
    @dg.sensor(
        name="check_alert_sensor",
        minimum_interval_seconds=tools.interval,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells whom `alerts` of forge.yaml names of each run in which asset checks"
        " failed, with what they measured; runs of the terminal and of CI too.",
    )
    def check_alert_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        with in_one_sentence() as said:
            before = read_cursor(context.cursor, tools.now())
            run_ids, cursor = ended_runs(context.instance, ("RUN_SUCCESS", "RUN_FAILURE"), before)
            messages = check_messages(tools.read(context, run_ids), tools.config)
            return tools.tell(context, messages, cursor)
        return dg.SkipReason(said.sentence)

    return check_alert_sensor
