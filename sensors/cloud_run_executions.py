"""`cloud_run_execution_sensor`: what becomes of the runner, and of launches that it died with."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

import dagster as dg

from forge_assets.launches.diagnose_job import diagnosis_request
from forge_assets.launches.launch_id import VARIABLE, find_by_labels, label_value
from forge_assets.launches.reporting import LAUNCHER_QUIET, observation
from resources.cloud.errors import CloudError
from resources.cloud.resource_name import same, tail
from sensors.cursor import read_cursor
from sensors.polling import FIRST_LOOK, OVERLAP, Polled, Settled, Source
from sensors.polling import poll as look
from sensors.tick import INTERVAL_SECONDS, TickTools, ended_tick, in_one_sentence

if TYPE_CHECKING:
    from resources.cloud.cloud_run import CloudRun, Execution
    from resources.cloud.vertex import Vertex
    from resources.launch_store import Launch, LaunchStore

POLL_SECONDS = 8.0
"""For all regions together."""
LOOK_UP_SECONDS = 2.0
LOOK_UPS = 3
"""Of one tick: each asks for the jobs of one launch."""


def poll(
    client: "CloudRun",
    cursor: str | None,
    now: datetime,
    regions: Sequence[str],
    job: str | None,
    watched: Sequence["Launch"],
    seconds: float,
) -> "Polled[Execution]":
    """Executions of the runner's ``job``, and those of launches. ``watched``: as of the other sensor."""
    before = read_cursor(cursor)
    waiting = [launch.execution for launch in watched if launch.execution and not launch.job_name]
    names = {tail(name) for name in (*waiting, *before.known)}

    def is_ours(execution: "Execution") -> bool:
        is_runner = execution.job == job or VARIABLE in execution.environment
        return is_runner or tail(execution.name) in names

    begun = [launch.created_at for launch in watched if launch.created_at and not launch.execution]
    return look(
        Source(client.executions, client.execution, is_ours),
        before,
        regions,
        waiting,
        min([now - FIRST_LOOK, *(at - OVERLAP for at in begun)]),
        now,
        seconds,
    )


def settle(
    store: "LaunchStore",
    vertex: "Vertex",
    watched: Sequence["Launch"],
    polled: "Polled[Execution]",
    now: datetime,
) -> "Settled[Execution]":
    """What was seen, written to the launches. Doing it again changes nothing."""
    settled: Settled[Execution] = Settled(due=list(polled.due))
    look_ups = LOOK_UPS
    for execution in polled.seen:
        launches = _launches_of(execution, watched)
        for launch in launches:
            if launch.execution is None:
                detail = {"by": "cloud_run_execution_sensor"}
                store.change(launch.id, "runner_seen", detail, execution=execution.name)
        if execution.state not in ("FAILED", "CANCELLED"):
            continue
        if execution.name in polled.changed:
            settled.observations.append(_ended(execution, launches, now))
        for launch in launches:
            if look_ups and _waits_for_its_job(launch, now):
                look_ups -= 1
                _judge(store, vertex, launch, execution, settled)
    return settled


def _launches_of(execution: "Execution", watched: "Iterable[Launch]") -> "list[Launch]":
    """Those that are known to have it, and the one that it was started for."""
    label = execution.environment.get(VARIABLE)
    return [
        launch
        for launch in watched
        if same(launch.execution, execution.name)
        or (launch.execution is None and label == label_value(launch.id))
    ]


def _waits_for_its_job(launch: "Launch", now: datetime) -> bool:
    """Its launcher is not about to tell how it ended, and no other runner may still start its job."""
    assert launch.updated_at is not None
    nothing_left = launch.job_name is None and launch.queue_item is None
    return nothing_left and launch.updated_at <= now - LAUNCHER_QUIET


def _judge(
    store: "LaunchStore",
    vertex: "Vertex",
    launch: "Launch",
    execution: "Execution",
    settled: "Settled[Execution]",
) -> None:
    """Its runner is dead: failed, if that left no job. What cannot be looked up stays as it is."""
    try:
        jobs = find_by_labels(vertex, launch, LOOK_UP_SECONDS, launch.wandb_run)
    except CloudError as error:
        settled.warnings.append(
            f"launch {launch.short}: whether it has a job is not known: {error}"
        )
        return
    if jobs:
        return
    reason = execution.message or f"the runner {tail(execution.name)} is {execution.state}"
    detail = {"by": "cloud_run_execution_sensor", "execution": execution.name}
    if store.change(launch.id, "runner_failed", detail, state="runner_failed", reason=reason):
        settled.changes.append(f"launch {launch.short}: {launch.state} -> runner_failed: {reason}")


def _ended(
    execution: "Execution", launches: "Sequence[Launch]", now: datetime
) -> dg.AssetObservation:
    given = execution.environment.get(VARIABLE, "")
    ids = dict.fromkeys([*_uuid(given), *(str(launch.id) for launch in launches)])
    return observation(
        f"{tail(execution.name)} {execution.state}",
        launch=", ".join(ids),
        execution=execution.name,
        region=execution.region,
        execution_state=execution.state,
        reason=": ".join(filter(None, [execution.reason, execution.message])),
        age_seconds=round(max(0.0, (now - execution.created).total_seconds()), 1),
    )


def _uuid(value: str) -> list[str]:
    try:
        return [str(UUID(hex=value))]
    except ValueError:
        return []


def build_cloud_run_execution_sensor(
    tools: TickTools, diagnose: dg.JobDefinition
) -> dg.SensorDefinition:
    @dg.sensor(
        name="cloud_run_execution_sensor",
        job=diagnose,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=tools.default_status,
        description="Reads the executions of the runner on Cloud Run, reports those that died on"
        " `launches`, and asks for a diagnosis of those that failed.",
    )
    def cloud_run_execution_sensor(
        context: dg.SensorEvaluationContext,
    ) -> dg.SensorResult | dg.SkipReason:
        with in_one_sentence() as said:
            tick = tools.begin()
            config = tick.clouds.config
            if config.runner is None:
                return dg.SkipReason("forge.yaml has no cloud.runner: there is no runner to watch")
            watched = tick.watched()
            client, regions, job = tick.clouds.cloud_run, [config.runner_region], config.runner.job
            polled = poll(client, context.cursor, tick.now, regions, job, watched, POLL_SECONDS)
            settled = settle(tick.launches, tick.clouds.vertex, watched, polled, tick.now)
            tick.report(context, settled.changes, settled.warnings, settled.observations)
            requests = [
                diagnosis_request(each.name, each.region, "execution") for each in settled.due
            ]
            return ended_tick(context, polled, requests, "execution")
        return dg.SkipReason(said.sentence)

    return cloud_run_execution_sensor
