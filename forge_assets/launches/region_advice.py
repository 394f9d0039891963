"""Where to try a job that a region has no quota or no stock for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from forge_assets.cloud_config import JobSpec, Strategy
from forge_assets.launches.catalogue import classify
from forge_assets.launches.machine_types import FLEX_START
from resources.cloud.quota import UNLIMITED
from resources.launch_store import Launch

REST = timedelta(hours=6)
"""For so long a region that refused comes last."""
_NAMED = 3
HISTORY = 200
"""Launches that are worth looking back on."""

# Compute Engine's zones with the machine types A2, A3 and A4: SkyPilot's catalogue of Google Cloud,
# version 8 of 2026 (github.com/skypilot-org/skypilot-catalog, catalogs/v8/gcp/vms.csv). An
# accelerator that is not here is taken to be everywhere; L4 and T4 nearly are.
_REGIONS: Mapping[str, frozenset[str]] = {
    accelerator: frozenset(regions.split())
    for accelerator, regions in {
        "NVIDIA_TESLA_A100": "us-central1 us-east1 us-west1 us-west3 us-west4 europe-west4"
        " asia-northeast1 asia-northeast3 asia-southeast1 me-west1",
        "NVIDIA_A100_80GB": "us-central1 us-east4 us-east5 europe-west4 asia-southeast1",
        "NVIDIA_H100_80GB": "us-central1 us-east4 us-east5 us-west1 us-west4 europe-north1"
        " europe-west1 europe-west2 europe-west3 europe-west4 europe-west8 europe-west9 asia-east1"
        " asia-northeast1 asia-northeast3 asia-south1 asia-south2 asia-southeast1"
        " australia-southeast1 northamerica-northeast2",
        "NVIDIA_H200_141GB": "us-central1 us-east4 us-east5 us-south1 us-west1 europe-west1"
        " europe-west4 asia-south1 asia-south2",
        "NVIDIA_B200": "us-central1 us-east1 us-east4 us-south1 us-west2 us-west3 europe-north1"
        " europe-west4 asia-northeast1 asia-southeast1",
    }.items()
}

Cause = Literal["quota", "stockout"]
_CAUSES: Mapping[str, Cause] = {
    "quota": "quota",
    "quota_wait": "quota",
    "stockout": "stockout",
    "no_capacity": "stockout",
}
"""By the catalogue's class."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """``accelerator``: "" for none; ``number``: of all replicas."""

    accelerator: str
    number: int
    region: str
    scheduling: Strategy


def is_there(accelerator: str, region: str) -> bool:
    """False only where the table knows that it is not."""
    return accelerator not in _REGIONS or region in _REGIONS[accelerator]


def advice(
    cause: Cause,
    wanted: Wanted,
    regions: Sequence[str],
    now: datetime,
    limits: Mapping[str, int | None] | None = None,
    other_limits: Mapping[str, int | None] | None = None,
    history: Sequence[Launch] = (),
) -> tuple[str, ...]:
    """Sentences, the best first.

    ``regions``: the configured ones. ``limits``: the quota of ``wanted.scheduling`` by region, None
    where it is not known; ``other_limits``: that of the other kind, standard against spot and
    flex-start. ``history``: our launches, in any order.
    """
    ranked = ranking(wanted, regions, now, limits, history)
    notes = [_notes(region, wanted, now, limits, history) for region in ranked[:_NAMED]]
    told = [f"`region: {region}`{note}" for region, note in zip(ranked, notes, strict=False)]
    found = [f"try {' or '.join(told)}"]
    if not told:
        found = [f"no other configured region is known to have {wanted.accelerator or 'room'}"]
    return (*found, *_schedules(cause, wanted, other_limits))


def where_else(
    error_class: str,
    spec: JobSpec,
    region: str,
    regions: Sequence[str],
    now: datetime,
    history: Sequence[Launch],
) -> tuple[str, ...]:
    """``advice`` for a job that was refused with a class of the catalogue; none for other classes."""
    if spec.accelerator is None or error_class not in _CAUSES:
        return ()
    number = spec.accelerators * spec.replicas
    wanted = Wanted(spec.accelerator, number, region, spec.scheduling)
    return advice(_CAUSES[error_class], wanted, regions, now, history=history)


def ranking(
    wanted: Wanted,
    regions: Sequence[str],
    now: datetime,
    limits: Mapping[str, int | None] | None = None,
    history: Sequence[Launch] = (),
) -> list[str]:
    """The other regions that may have it, best first; one whose quota is too small is left out."""

    def rank(region: str) -> tuple[bool, bool, bool, int]:
        limit = (limits or {}).get(region)
        ran, refused = _last(history, wanted, region)
        return (
            _is_fresh(refused, now) and not (ran and refused and ran > refused),
            limit is None,
            ran is None,
            -(limit or 0),
        )

    others = [
        region
        for region in dict.fromkeys(regions)
        if region != wanted.region and is_there(wanted.accelerator, region)
    ]
    enough = [region for region in others if _is_enough((limits or {}).get(region), wanted.number)]
    return sorted(enough, key=rank)


def _is_enough(limit: int | None, number: int) -> bool:
    return limit is None or limit >= number


def _is_fresh(at: datetime | None, now: datetime) -> bool:
    return at is not None and now - at <= REST


def _last(
    history: Sequence[Launch], wanted: Wanted, region: str
) -> tuple[datetime | None, datetime | None]:
    """When a job with this accelerator last ran in the region, and when it was last refused."""
    ran: list[datetime] = []
    refused: list[datetime] = []
    for launch in history:
        at = launch.updated_at or launch.created_at
        used = launch.spec.get("accelerator", wanted.accelerator) or ""
        if at is None or launch.region != region or used != wanted.accelerator:
            continue
        if launch.state in ("running", "succeeded"):
            ran.append(at)
        elif launch.state == "expired" or _is_of_the_region(launch.reason):
            refused.append(at)
    return max(ran, default=None), max(refused, default=None)


def _is_of_the_region(reason: str | None) -> bool:
    cause = classify(reason) if reason else None
    return cause is not None and cause.entry.retry == "region"


def _notes(
    region: str,
    wanted: Wanted,
    now: datetime,
    limits: Mapping[str, int | None] | None,
    history: Sequence[Launch],
) -> str:
    limit = (limits or {}).get(region)
    ran, refused = _last(history, wanted, region)
    known = []
    if limit is not None:
        known.append("no quota limit" if limit == UNLIMITED else f"quota {limit}")
    if ran is not None:
        known.append(f"a job ran there {_ago(now - ran)} ago")
    if refused is not None and _is_fresh(refused, now):
        known.append(f"refused {_ago(now - refused)} ago")
    return f" ({', '.join(known)})" if known else ""


def _schedules(
    cause: Cause, wanted: Wanted, other_limits: Mapping[str, int | None] | None
) -> list[str]:
    """Standard, spot and flex-start; the last two share a quota."""
    here = (other_limits or {}).get(wanted.region)
    other: Strategy = "spot" if wanted.scheduling == "standard" else "standard"
    found = []
    if here is not None and here >= wanted.number:
        number = "without a limit" if here == UNLIMITED else str(here)
        found.append(f"`scheduling: {other}` has a quota of its own here: {number}")
    elif here is None and cause == "quota":
        found.append(f"`scheduling: {other}` has a quota of its own, not known here")
    if (
        cause == "stockout"
        and wanted.scheduling != "flex-start"
        and wanted.accelerator in FLEX_START
    ):
        found.append("`scheduling: flex-start` waits for stock, up to `max_wait`")
    return found


def _ago(passed: timedelta) -> str:
    minutes = max(0, int(passed.total_seconds() // 60))
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // 1440} days"
