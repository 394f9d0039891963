"""The monitor: all chosen tables read at once, again and again."""

from collections.abc import Callable, Collection
from datetime import datetime, timedelta

from forge_assets.launches.clouds import Clouds
from forge_assets.launches.monitor import sources
from forge_assets.launches.monitor.builds import active_builds, recent_builds
from forge_assets.launches.monitor.log_reads import LogReads
from forge_assets.launches.monitor.reads import LastReads
from forge_assets.launches.monitor.runner_executions import newest_executions, runner_executions
from forge_assets.launches.monitor.table import Snapshot, Table
from forge_assets.launches.monitor.tables import TABLES
from forge_assets.launches.monitor.vertex_jobs import newest_jobs, vertex_jobs
from forge_assets.launches.monitor.wandb_runs import active_runs, completed_runs, without_wandb
from resources.cloud.regions import utc_now
from resources.diagnosis_store import DiagnosisStore

READ_SECONDS = 10.0
LOG_SECONDS = 5.0
WINDOW = timedelta(days=7)
"""Older builds, executions and jobs are not looked for."""

NO_WANDB = "W&B is not set up: add cloud.wandb with entity and project to forge.yaml"


class Monitor:
    """Keeps the last rows of every region and the reasons of what is over. For one thread at a time."""

    def __init__(
        self,
        clouds: Clouds,
        diagnoses: DiagnosisStore | None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._clouds = clouds
        self._clock = clock
        self._last = LastReads()
        self._logs = LogReads(clouds, diagnoses, clock)

    def read(
        self,
        tables: Collection[str] = TABLES,
        seconds: float = READ_SECONDS,
        log_seconds: float = LOG_SECONDS,
    ) -> Snapshot:
        """``seconds`` for all regions of all tables together, then ``log_seconds`` for the logs."""
        asks = sources.questions(self._clouds, tables, self._clock() - WINDOW)
        reads = self._last.read(asks, seconds, self._clock)
        config = self._clouds.config
        executions = newest_executions(
            reads.get(sources.EXECUTIONS, ()), config.runner.job if config.runner else None
        )
        jobs = newest_jobs(reads.get(sources.JOBS, ()))
        told = self._logs.read(executions.rows, jobs.rows, log_seconds)

        def table(name: str) -> Table:
            read = [reads[source] for source in sources.OF_TABLE[name]]
            match name:
                case "runner_executions":
                    return runner_executions(executions, told)
                case "active_builds":
                    return active_builds(*read)
                case "recent_builds":
                    return recent_builds(*read)
                case "vertex_jobs":
                    return vertex_jobs(jobs, told)
            if config.wandb is None:
                return without_wandb(name, NO_WANDB)
            if name == "active_runs":
                return active_runs(config.wandb.project, *read)
            return completed_runs(*read)

        return Snapshot(self._clock(), [table(name) for name in TABLES if name in tables])
