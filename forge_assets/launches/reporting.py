"""What Dagster is told of launches: asset events of the key ``launches``, each told once."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import dagster as dg

from forge_assets.launches.assets import LAUNCHES
from forge_assets.launches.outcome import OF_STATE
from resources.cloud.regions import utc_now

if TYPE_CHECKING:
    from forge_assets.launches.outcome import LaunchResult
    from resources.launch_store import Launch, LaunchStore

WITH_JOB = frozenset(OF_STATE.values())
"""States of a launch that follow the state of its job."""

WATCHED = timedelta(days=8)
"""A job lives 7 days unless told otherwise, and may wait a day before."""

LAUNCHER_QUIET = timedelta(minutes=3)
"""A launcher that lives has written something within this, and reports the submission itself."""

EVENT = "event"
"""Metadata of an observation that no launch keeps the books of: the same text is the same event."""

_EVENTS_PAGE = 500
_EVENTS_PAGES = 4


def submission_event(launch: "Launch", now: datetime) -> dg.AssetMaterialization:
    """The launch has a job."""
    return dg.AssetMaterialization(LAUNCHES, metadata=_metadata(launch, now))


def state_event(launch: "Launch", now: datetime) -> dg.AssetObservation:
    """What became of the launch."""
    return dg.AssetObservation(LAUNCHES, metadata=_metadata(launch, now))


def report_launch(
    instance: dg.DagsterInstance,
    store: "LaunchStore",
    launch: "Launch | UUID",
    now: datetime | None = None,
) -> Sequence[dg.AssetMaterialization | dg.AssetObservation]:
    """Tells Dagster what it does not know yet of a launch, and gives that.

    Whoever reports the same launch at the same moment waits and then finds nothing left. After a
    crash between the report and its mark it is told once more, never not at all.
    """
    with store.telling(launch if isinstance(launch, UUID) else launch.id) as current:
        events = tuple(_untold(current, now or utc_now())) if current else ()
        for event in events:
            instance.report_runless_asset_event(event)
    return events


def report_untold(
    instance: dg.DagsterInstance, store: "LaunchStore", project: str, now: datetime
) -> int:
    """Every launch whose state Dagster does not know; the number of events.

    A submission that nobody reported waits until its launcher cannot be about to.
    """
    told = 0
    for launch in reversed(store.untold(project, now - WATCHED)):
        assert launch.updated_at is not None
        if launch.reported in WITH_JOB or launch.updated_at <= now - LAUNCHER_QUIET:
            told += len(report_launch(instance, store, launch, now))
    return told


def metadata_of(result: "LaunchResult") -> Mapping[str, Any]:
    """Of the materialization by a run: the names that the events of a launch have."""
    found = {
        "state": result.state,
        "job_state": result.job_state,
        "reason": result.reason,
        **_names(result, result.region),
        "launch": str(result.launch),
        "path": result.path,
        "duplicates": ", ".join(result.duplicates),
        "age_seconds": None if result.age is None else round(result.age, 1),
        "seconds": round(result.seconds, 1),
    }
    return _told(found)


def observation(event: str, **found: Any) -> dg.AssetObservation:
    """Of ``launches``, for what is no state of a launch. ``event``: tells it from every other."""
    return dg.AssetObservation(LAUNCHES, metadata={EVENT: event, **_told(found)})


def observe_once(
    instance: dg.DagsterInstance, observations: Sequence[dg.AssetObservation], since: datetime
) -> int:
    """Those that Dagster was not told since ``since``; their number.

    Two that look at the same moment may both tell; a tick that is repeated does not.
    """
    if not observations:
        return 0
    known = _events_since(instance, since)
    told = 0
    for made in observations:
        event = str(made.metadata[EVENT].value)
        if event not in known:
            instance.report_runless_asset_event(made)
            known.add(event)
            told += 1
    return told


def _events_since(instance: dg.DagsterInstance, since: datetime) -> set[str]:
    wanted = dg.AssetRecordsFilter(LAUNCHES, after_timestamp=since.timestamp())
    found: set[str] = set()
    cursor: str | None = None
    for _ in range(_EVENTS_PAGES):
        page = instance.fetch_observations(wanted, _EVENTS_PAGE, cursor)
        for record in page.records:
            made = record.asset_observation
            if made is not None and EVENT in made.metadata:
                found.add(str(made.metadata[EVENT].value))
        if not page.has_more:
            break
        cursor = page.cursor
    return found


def _untold(
    launch: "Launch", now: datetime
) -> Iterator[dg.AssetMaterialization | dg.AssetObservation]:
    if launch.state in (launch.reported, "intended"):
        return
    has_job = launch.state in WITH_JOB and launch.job_name is not None
    is_new = has_job and launch.reported not in WITH_JOB
    if is_new:
        yield submission_event(launch, now)
    if launch.is_over or not is_new:
        yield state_event(launch, now)


def _metadata(launch: "Launch", now: datetime) -> Mapping[str, Any]:
    age = None if launch.created_at is None else (now - launch.created_at).total_seconds()
    found = {
        "state": launch.state,
        "reason": launch.reason,
        **_names(launch, launch.region),
        "launch": str(launch.id),
        "path": launch.path,
        "queue": launch.queue,
        "age_seconds": None if age is None else round(max(0.0, age), 1),
    }
    return _told(found)


def _names(found: "Launch | LaunchResult", region: str) -> dict[str, str | None]:
    return {
        "job": found.job,
        "region": region,
        "resource": found.job_name,
        "execution": found.execution,
        "queue_item": found.queue_item,
        "wandb_run": found.wandb_run,
    }


def _told(found: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is not known."""
    return {name: value for name, value in found.items() if value not in (None, "")}
