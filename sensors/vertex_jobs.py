"""`vertex_job_sensor`: what becomes of the launches' jobs, also of those that nobody waits for."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import dagster as dg

from forge_assets.launches.diagnose_job import diagnosis_request
from forge_assets.launches.launch_id import LABEL, RUN_LABEL
from forge_assets.launches.reporting import observation
from resources.cloud.resource_name import same, tail
from sensors.cursor import read_cursor
from sensors.polling import FIRST_LOOK, OVERLAP, Polled, Settled, Source
from sensors.polling import poll as look
from sensors.tick import INTERVAL_SECONDS, TickTools, ended_tick, in_one_sentence

if TYPE_CHECKING:
    from resources.cloud.vertex import Job, Vertex
    from resources.launch_state import LaunchState
    from resources.launch_store import Launch, LaunchStore

POLL_SECONDS = 12.0
"""For all regions together."""


def poll(
    client: "Vertex",
    cursor: str | None,
    now: datetime,
    regions: Sequence[str],
    watched: Sequence["Launch"],
    seconds: float,
) -> "Polled[Job]":
    """The jobs of launches. ``watched``: launches that may still change."""
    before = read_cursor(cursor)
    names = {tail(launch.job_name) for launch in watched if launch.job_name}
    names |= {tail(name) for name in before.known}
    runs = {launch.wandb_run for launch in watched if launch.wandb_run}

    def is_ours(job: "Job") -> bool:
        labelled = launch_of(job) is not None or job.labels.get(RUN_LABEL) in runs
        return labelled or tail(job.name) in names

    begun = [launch.created_at for launch in watched if launch.created_at and not launch.job_name]
    return look(
        Source(client.jobs, client.get, is_ours),
        before,
        [*regions, *(launch.region for launch in watched)],
        [launch.job_name for launch in watched if launch.job_name],
        min([now - FIRST_LOOK, *(at - OVERLAP for at in begun)]),
        now,
        seconds,
    )


def launch_of(job: "Job") -> UUID | None:
    """Whose label the job carries."""
    value = job.labels.get(LABEL, "")
    try:
        return UUID(hex=value) if len(value) == 32 else None
    except ValueError:
        return None


def state_of(job_state: str) -> "LaunchState":
    """A state that is none of the known is no success, and nothing that ended."""
    from forge_assets.launches.outcome import OF_STATE

    # It may still end by itself before the request reaches it.
    return "running" if job_state == "CANCELLING" else OF_STATE.get(job_state, "unknown")


def settle(
    store: "LaunchStore", watched: Sequence["Launch"], polled: "Polled[Job]", now: datetime
) -> "Settled[tuple[Job, UUID]]":
    """What was seen, written to the launches. Doing it again changes nothing.

    A job with our label whose launch this store does not know, as with another database on the same
    project, is observed in each of its states, and is not adopted.
    """
    settled: Settled[tuple[Job, UUID]] = Settled()
    due = {job.name for job in polled.due}
    current = {launch.id: launch for launch in watched}
    for job in polled.seen:
        launch = _launch_in(current.values(), job)
        if launch is None and (job.name in polled.changed or job.name in due):
            launch = _launch_in_store(store, job)
        if launch is None:
            if job.name in polled.changed:
                settled.observations.append(_stranger(job, now))
            continue
        if job.name in due:
            settled.due.append((job, launch.id))
        if launch.job_name is not None and not same(launch.job_name, job.name):
            if job.name in polled.changed:
                said = f"launch {launch.short} has a second job, {tail(job.name)}, {job.state}"
                _warn(settled, said, launch, job, now, f": forge cancel {job.name}")
        elif launch.is_over:
            if job.name in polled.changed and launch.state != state_of(job.state):
                said = f"launch {launch.short} ended as {launch.state}, its job is {job.state}"
                _warn(settled, said, launch, job, now)
        else:
            current[launch.id] = _written(store, launch, job, settled)
    for name in polled.gone:
        _write_gone(store, current.values(), name, settled)
    return settled


def _launch_in(launches: "Iterable[Launch]", job: "Job") -> "Launch | None":
    """By our label, else by the job's name, else by the run's."""
    label, run = launch_of(job), job.labels.get(RUN_LABEL)
    by_name = by_run = None
    for launch in launches:
        if launch.id == label:
            return launch
        if same(launch.job_name, job.name):
            by_name = launch
        elif run is not None and launch.wandb_run == run:
            by_run = launch
    return None if label is not None else by_name or by_run


def _launch_in_store(store: "LaunchStore", job: "Job") -> "Launch | None":
    """Also one that is over, or older than what is watched."""
    label = launch_of(job)
    if label is not None:
        return store.launch(label)
    run = job.labels.get(RUN_LABEL)
    found = [*store.named(job.name), *(store.named(run) if run else ())]
    return _launch_in(found, job)


def _written(store: "LaunchStore", launch: "Launch", job: "Job", settled: Settled[Any]) -> "Launch":
    state = state_of(job.state)
    if launch.state == state and same(launch.job_name, job.name):
        return launch
    reason = job.error or None
    if state == "unknown":
        reason = f"Vertex AI says {job.state}, a state that is none of the known"
    columns = {
        "state": state,
        "job_name": job.name,
        "reason": reason,
        "wandb_run": launch.wandb_run or job.labels.get(RUN_LABEL),
    }
    detail = {"by": "vertex_job_sensor", "job_name": job.name, "job_state": job.state}
    if store.change(launch.id, "seen", detail, **columns):
        settled.changes.append(f"launch {launch.short}: {launch.state} -> {state}")
    return store.launch(launch.id) or launch


def _write_gone(
    store: "LaunchStore", launches: "Iterable[Launch]", name: str, settled: Settled[Any]
) -> None:
    """How it ended nobody can tell any more."""
    for launch in launches:
        if same(launch.job_name, name) and not launch.is_over and launch.state != "unknown":
            reason = "Vertex AI has no such job any more"
            store.change(launch.id, "gone", {"job_name": name}, state="unknown", reason=reason)
            settled.warnings.append(f"launch {launch.short}: {reason}")


def _stranger(job: "Job", now: datetime) -> dg.AssetObservation:
    return observation(
        f"{tail(job.name)} {job.state}",
        note="the store of this project does not know this launch",
        **_of_job(job, now),
    )


def _warn(
    settled: Settled[Any], said: str, launch: "Launch", job: "Job", now: datetime, fix: str = ""
) -> None:
    settled.warnings.append(said + fix)
    event = f"{tail(job.name)} {job.state}"
    settled.observations.append(
        observation(event, severity="warning", note=said, **_of_job(job, now, launch.id))
    )


def _of_job(job: "Job", now: datetime, launch: UUID | None = None) -> dict[str, object]:
    return {
        "launch": str(launch or launch_of(job) or ""),
        "resource": job.name,
        "region": job.region,
        "job_state": job.state,
        "reason": job.error,
        "age_seconds": round(max(0.0, (now - job.created).total_seconds()), 1),
    }


def build_vertex_job_sensor(tools: TickTools, diagnose: dg.JobDefinition) -> dg.SensorDefinition:
    @dg.sensor(
        name="vertex_job_sensor",
        job=diagnose,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=tools.default_status,
        description="Reads the launches' jobs on Vertex AI in every configured region, reports what"
        " became of them on `launches`, and asks for a diagnosis of those that failed.",
    )
    def vertex_job_sensor(
        context: dg.SensorEvaluationContext,
    ) -> dg.SensorResult | dg.SkipReason:
        with in_one_sentence() as said:
            tick = tools.begin()
            watched = tick.watched()
            client = tick.clouds.vertex
            polled = poll(client, context.cursor, tick.now, tick.regions, watched, POLL_SECONDS)
            settled = settle(tick.launches, watched, polled, tick.now)
            tick.report(context, settled.changes, settled.warnings, settled.observations)
            requests = [
                diagnosis_request(job.name, job.region, "job", launch)
                for job, launch in settled.due
            ]
            return ended_tick(context, polled, requests, "job")
        return dg.SkipReason(said.sentence)

    return vertex_job_sensor
