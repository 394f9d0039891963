"""What the tables are read from: each source with its regions and the question to each of them."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from forge_assets.cloud_config import WandbSpec
from forge_assets.launches.clouds import Clouds
from forge_assets.launches.monitor.reads import Ask
from forge_assets.launches.monitor.tables import (
    ACTIVE_BUILDS,
    ACTIVE_RUNS,
    COMPLETED_RUNS,
    RECENT_BUILDS,
    RUNNER_EXECUTIONS,
    VERTEX_JOBS,
)
from forge_assets.launches.monitor.wandb_runs import (
    ACTIVE_READ,
    ACTIVE_STATES,
    COMPLETED_LIMIT,
)
from resources.cloud.cloud_build import EVERYWHERE
from resources.cloud.errors import Denied
from resources.cloud.listing import Listing
from resources.cloud.wandb_types import OVER
from resources.errors import ConfigurationError

EXECUTIONS, BUILDS, JOBS = "executions", "builds", "jobs"
RUNS_UNDER_WAY, RUNS_OVER, ITEMS = "runs under way", "runs that are over", "queue items"
OF_TABLE = {
    RUNNER_EXECUTIONS: (EXECUTIONS,),
    ACTIVE_BUILDS: (BUILDS,),
    RECENT_BUILDS: (BUILDS,),
    VERTEX_JOBS: (JOBS,),
    ACTIVE_RUNS: (RUNS_UNDER_WAY, ITEMS),
    COMPLETED_RUNS: (RUNS_OVER,),
}

_Call = Callable[[str, datetime, float], Listing[Any]]


def questions(
    clouds: Clouds, tables: Collection[str], since: datetime
) -> dict[str, Mapping[str, Ask]]:
    """By source and region; the sources of W&B have no region when it is not set up.

    Google's clients are made here: what importing one takes is no region's time.
    """
    config = clouds.config
    asks: dict[str, Mapping[str, Ask]] = {}
    for source in dict.fromkeys(source for table in tables for source in OF_TABLE[table]):
        if source == EXECUTIONS:
            asks[source] = _by_region(clouds.cloud_run.executions, config.regions, since)
        elif source == BUILDS:
            regions = (*config.regions, EVERYWHERE)
            asks[source] = _by_region(clouds.cloud_build.builds, regions, since)
        elif source == JOBS:
            asks[source] = _by_region(clouds.vertex.jobs, config.regions, since)
        else:
            asks[source] = _of_wandb(clouds, source, config.wandb) if config.wandb else {}
    return asks


def _by_region(call: _Call, regions: Sequence[str], since: datetime) -> Mapping[str, Ask]:
    def ask(region: str) -> Ask:
        return lambda left: call(region, since, left)

    return {region: ask(region) for region in regions}


def _of_wandb(clouds: Clouds, source: str, wandb: WandbSpec) -> Mapping[str, Ask]:
    """W&B is one place, and its queue another."""
    entity, project, queue = wandb.entity, wandb.project, wandb.queue

    def client() -> Any:
        try:
            return clouds.wandb
        except ConfigurationError as error:
            raise Denied(str(error)) from error

    def under_way(left: float) -> Listing[Any]:
        return client().runs(entity, project, ACTIVE_STATES, ACTIVE_READ, left)

    def over(left: float) -> Listing[Any]:
        return client().runs(entity, project, OVER, COMPLETED_LIMIT, left)

    def items(left: float) -> Listing[Any]:
        return client().items(entity, queue, left)

    if source == ITEMS:
        return {f"W&B queue {queue}": items} if queue else {}
    return {"W&B runs": under_way if source == RUNS_UNDER_WAY else over}
