"""Builds of Cloud Build: those under way, and the newest of all."""

from collections.abc import Sequence

from forge_assets.launches.monitor.reads import Picked, RegionRows, newest
from forge_assets.launches.monitor.table import Cell, Column, RegionState, Row, Span, Table
from forge_assets.launches.monitor.tables import ACTIVE_BUILDS, RECENT_BUILDS
from forge_assets.launches.reasons import build_reason
from resources.cloud.cloud_build import Build

ACTIVE_LIMIT = 50
RECENT_LIMIT = 4

_COMMON = (
    Column("build", "Build ID", 12),
    Column("image", "Image", 40),
    Column("region", "Region"),
    Column("status", "Status"),
    Column("duration", "Duration"),
)
_ACTIVE_COLUMNS = (*_COMMON, Column("steps", "Steps"), Column("created", "Created"))
_RECENT_COLUMNS = (*_COMMON, Column("finished", "Finished"), Column("note", "Note", 60))


def active_builds(reads: Sequence[RegionRows[Build]]) -> Table:
    """Newest first."""
    picked = newest(reads, ACTIVE_LIMIT, lambda build: build.is_active, _age_key)
    return _table(ACTIVE_BUILDS, "Active builds", _ACTIVE_COLUMNS, picked)


def recent_builds(reads: Sequence[RegionRows[Build]]) -> Table:
    """Those under way first, then newest first."""
    picked = newest(
        reads, RECENT_LIMIT, lambda _: True, lambda build: (build.is_active, *_age_key(build))
    )
    return _table(RECENT_BUILDS, "Recent builds", _RECENT_COLUMNS, picked)


def _table(name: str, title: str, columns: Sequence[Column], picked: Picked[Build]) -> Table:
    rows = [_row(build, region) for region, build in picked.found]
    return Table(name, title, columns, rows, picked.regions, picked.count)


def _age_key(build: Build) -> tuple[object, str]:
    return build.created, build.id


def _row(build: Build, region: RegionState) -> Row:
    # One that somebody cancelled did not fail.
    failed = not build.is_active and build.status not in ("SUCCESS", "CANCELLED", "UNKNOWN")
    why = build_reason(build) if failed else None
    error, advice = (why.text, why.advice) if why else ("", "")
    over_at = build.ended or (None if build.is_active else build.created)
    cells: dict[str, Cell] = {
        "build": build.id,
        "image": build.images[0].rsplit("/", 1)[-1] if build.images else None,
        "images": tuple(build.images),
        "region": build.region,
        "status": build.status,
        "duration": Span(build.created, over_at),
        "steps": f"{build.steps_done}/{build.steps}",
        "steps_done": build.steps_done,
        "steps_total": build.steps,
        "created": build.created,
        "finished": build.ended,
        "note": error or _note(build),
    }
    return Row(build.id, cells, region, error, advice)


def _note(build: Build) -> str:
    if build.status == "SUCCESS":
        # A reader of JSON or of metadata may be in another zone than the writer.
        at = f": {build.ended:%b %d, %H:%M:%S} UTC" if build.ended else ""
        return f"Build completed{at}"
    return "a state that this version does not know" if build.status == "UNKNOWN" else ""
