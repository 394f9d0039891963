"""Ids of a run's workers: each has leases and a row of its own, and lives and dies with the run."""

_BETWEEN = "/"


def worker_id(run_id: str, number: int) -> str:
    """The first works under the run's own id."""
    return run_id if number == 1 else f"{run_id}{_BETWEEN}{number}"


def run_of(run_id: str) -> str:
    """The run that a worker belongs to."""
    return run_id.partition(_BETWEEN)[0]


def sql_run_of(column: str) -> str:
    """The same in SQL."""
    return f"split_part({column}, '{_BETWEEN}', 1)"
