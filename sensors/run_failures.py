"""`run_failure_alert_sensor`: people hear of failed runs and failed launches, once each."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from forge_assets.alerts.message import EndedRun, launch_key, launch_message, run_message
from forge_assets.launches.assets import LAUNCHES
from sensors.alert_tick import AlertTools
from sensors.run_ends import LOOK_BACK, EndCursor, ended_runs, read_cursor
from sensors.tick import in_one_sentence

if TYPE_CHECKING:
    from resources.alert import Message
    from resources.failed_launches import FailedLaunches
    from resources.launch_store import Launch

DIAGNOSED_WITHIN = timedelta(minutes=2)
"""After its end a launch is diagnosed: before that its reason says less than it could."""
LAUNCHES_AT_MOST = 50


def failure_messages(
    runs: Iterable[EndedRun], base_url: str | None, launch_keys: dict[str, str]
) -> "list[Message]":
    """One for each run that failed. ``launch_keys``: by run, of the launch that it was for."""
    return [run_message(run, base_url, launch_keys.get(run.run_id)) for run in runs if run.failed]


def failed_launches(
    store: "FailedLaunches", cursor: EndCursor
) -> "tuple[Sequence[Launch], EndCursor]":
    """Those that ended badly since, and the next cursor."""
    after = cursor.launches or cursor.began - LOOK_BACK
    found, until = store.ended(after, DIAGNOSED_WITHIN, LAUNCHES_AT_MOST)
    return found, cursor.model_copy(update={"launches": until})


def launch_keys(
    instance: dg.DagsterInstance, store: "FailedLaunches", runs: Iterable[EndedRun]
) -> dict[str, str]:
    """By run that was to launch a job: the key of that launch, which would be told of a second time."""
    found = {}
    for run in runs:
        record = instance.get_run_record_by_id(run.run_id) if run.failed else None
        launch = _launch_of(record, store) if record is not None else None
        if launch is not None:
            found[run.run_id] = launch_key(launch)
    return found


def _launch_of(record: dg.RunRecord, store: "FailedLaunches") -> "Launch | None":
    """By the job that the run config names, and by the time."""
    run = record.dagster_run
    if LAUNCHES not in (run.asset_selection or ()) or not (record.start_time and record.end_time):
        return None
    config: Any = run.run_config
    for name in ("ops", "launches", "config", "job"):
        config = config.get(name) if isinstance(config, Mapping) else None
    began, ended = (datetime.fromtimestamp(at, UTC) for at in (record.start_time, record.end_time))
    return store.made_between(config, began, ended) if isinstance(config, str) else None


def build_run_failure_alert_sensor(tools: AlertTools) -> dg.SensorDefinition:
    @dg.sensor(
        name="run_failure_alert_sensor",
        minimum_interval_seconds=tools.interval,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells whom `alerts` of forge.yaml names of each run that failed, also of one"
        " from the terminal or of CI, and of each launch that failed. A run whose process died without"
        " a word is marked failed first.",
    )
    def run_failure_alert_sensor(
        context: dg.SensorEvaluationContext,
    ) -> dg.SensorResult | dg.SkipReason:
        with in_one_sentence() as said:
            tools.bury_dead_runs(context)
            before = read_cursor(context.cursor, tools.now())
            run_ids, cursor = ended_runs(context.instance, ("RUN_FAILURE",), before)
            launches, cursor = failed_launches(tools.launches, cursor)
            runs = tools.read(context, run_ids)
            keys = launch_keys(context.instance, tools.launches, runs)
            base_url = tools.config.base_url
            messages = failure_messages(runs, base_url, keys)
            messages += [launch_message(launch, base_url) for launch in launches]
            return tools.tell(context, messages, cursor)
        return dg.SkipReason(said.sentence)

    return run_failure_alert_sensor
