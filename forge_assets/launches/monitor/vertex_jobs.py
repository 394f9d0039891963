"""Vertex AI's jobs, the newest of all regions."""

from collections.abc import Sequence

from forge_assets.launches.monitor.explained import Explained, Told
from forge_assets.launches.monitor.reads import Picked, RegionRows, newest
from forge_assets.launches.monitor.table import Cell, Column, RegionState, Row, Span, Table
from forge_assets.launches.monitor.tables import VERTEX_JOBS
from resources.cloud.resource_name import short
from resources.cloud.vertex import Job

LIMIT = 10

COLUMNS = (
    Column("job", "Job ID"),
    Column("display_name", "Name", 40),
    Column("region", "Region"),
    Column("state", "State"),
    Column("runtime", "Runtime"),
    Column("created", "Created"),
    Column("note", "Note", 75),
)
FAILED = frozenset({"FAILED", "EXPIRED", "PARTIALLY_SUCCEEDED"})
_NOTES = {
    "QUEUED": "waiting for quota",
    "UNKNOWN": "a state that this version does not know",
}


def newest_jobs(reads: Sequence[RegionRows[Job]]) -> Picked[Job]:
    return newest(reads, LIMIT, lambda _: True, lambda job: (job.created, job.name))


def vertex_jobs(picked: Picked[Job], told: Told) -> Table:
    rows = [_row(job, region, told.explained.get(job.name)) for region, job in picked.found]
    return Table(VERTEX_JOBS, "Vertex AI jobs", COLUMNS, rows, picked.regions, picked.count)


def _row(job: Job, region: RegionState, why: Explained | None) -> Row:
    why = why or Explained()
    error = why.text or job.error
    if not error and job.error_code:
        error = f"Error code: {job.error_code}"
    over = job.is_over and job.ended is None
    cells: dict[str, Cell] = {
        "job": short(job.name),
        "name": job.name,
        "display_name": job.display_name,
        "region": job.region,
        "state": job.state,
        # Waiting for quota or a machine is no running; of an end without a time nothing is known.
        "runtime": Span(None if over else job.started, job.ended),
        "created": job.created,
        "started": job.started,
        "ended": job.ended,
        "labels": tuple(f"{name}={value}" for name, value in sorted(job.labels.items())),
        "note": error or _NOTES.get(job.state, ""),
    }
    return Row(short(job.name), cells, region, error, why.advice, why.log, why.log_note)
