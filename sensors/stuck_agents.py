"""`stuck_agent_sensor`: a W&B Launch agent that is busy with a job that is over, and stays so.

The agent's Vertex runner compares a job's state with a text that Python writes otherwise since 3.11, so
it never sees a job end. An agent that may have one job takes no other from then on.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

import dagster as dg
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from forge_assets.launches.launch_id import RUN_LABEL
from forge_assets.launches.reporting import observation
from resources.cloud.errors import CloudError, NotFound
from resources.cloud.resource_name import tail
from resources.cloud.wire_values import NEVER
from sensors.polling import LONGEST_LOOK
from sensors.tick import Tick, TickTools, in_one_sentence

if TYPE_CHECKING:
    from resources.cloud.vertex import Job
    from resources.cloud.wandb import Wandb
    from resources.cloud.wandb_types import Agent, QueueItem

INTERVAL_SECONDS = 300
STUCK_AFTER = timedelta(minutes=15)
"""Busy this long after the end of its last job."""
WANDB_SECONDS = 5.0
JOBS_SECONDS = 10.0

ADVICE = (
    "the agent does not see that its job ended: start the runner anew, or give it more max_jobs"
)


@dataclass(frozen=True, slots=True)
class StuckAgent:
    """``job``: the last one of its queues that ended; ``minutes``: since then."""

    agent: "Agent"
    job: "Job"
    minutes: float

    @property
    def key(self) -> str:
        return f"{self.agent.id} {tail(self.job.name)}"

    @property
    def sentence(self) -> str:
        return (
            f"agent {self.agent.name or self.agent.id} is {self.agent.status} in W&B, and its job"
            f" {tail(self.job.name)} is {self.job.state} since {self.minutes:.0f} min: {ADVICE}"
        )


class Suspects(BaseModel):
    """Between ticks: since when an agent has been seen with a job that is over."""

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = 1
    since: Mapping[str, AwareDatetime] = {}


def stuck_agents(
    agents: Iterable["Agent"],
    items: Mapping[str, Sequence["QueueItem"]],
    jobs: Iterable["Job"],
    now: datetime,
) -> Sequence[StuckAgent]:
    """Of busy ``agents`` those every job of whose queues is over for STUCK_AFTER.

    ``items``: by queue; ``jobs``: of every region, whole. Which of a queue's agents took an item W&B
    does not tell: a job that is not over excuses all of them, and so does an item on its way.
    """
    by_run = {job.labels[RUN_LABEL]: job for job in jobs if RUN_LABEL in job.labels}
    found = []
    for agent in agents:
        taken = [item for queue in agent.queues for item in items.get(queue, ())]
        led_to = [by_run[item.run_id] for item in taken if item.run_id in by_run]
        if not led_to or any(item.state == "LEASED" for item in taken):
            continue
        last = max(led_to, key=lambda job: job.ended or NEVER)
        if all(job.is_over for job in led_to) and last.ended and last.ended <= now - STUCK_AFTER:
            minutes = (now - last.ended).total_seconds() / 60
            found.append(StuckAgent(agent, last, minutes))
    return found


def confirmed(
    found: Sequence[StuckAgent], cursor: str | None, now: datetime
) -> tuple[Sequence[StuckAgent], str]:
    """Those seen so since STUCK_AFTER, and the next cursor: an agent may have just taken a new item,
    whose job is not there yet."""
    before = _suspects(cursor).since
    since = {each.key: min(before.get(each.key, now), now) for each in found}
    stuck = [each for each in found if since[each.key] <= now - STUCK_AFTER]
    return stuck, Suspects(since=since).model_dump_json()


def alert(stuck: StuckAgent) -> dg.AssetObservation:
    """One for an agent and a job."""
    return observation(
        f"stuck agent {stuck.key}",
        severity="error",
        note=stuck.sentence,
        agent=stuck.agent.id,
        agent_name=stuck.agent.name,
        queues=", ".join(stuck.agent.queues),
        resource=stuck.job.name,
        region=stuck.job.region,
        job_state=stuck.job.state,
        wandb_run=stuck.job.labels[RUN_LABEL],
        minutes=round(stuck.minutes, 1),
    )


def _suspects(cursor: str | None) -> Suspects:
    try:
        return Suspects.model_validate_json(cursor or "{}")
    except ValidationError:
        return Suspects()


def build_stuck_agent_sensor(tools: TickTools) -> dg.SensorDefinition:
    @dg.sensor(
        name="stuck_agent_sensor",
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=tools.default_status,
        description="Looks for W&B Launch agents that are busy with a job that Vertex AI calls over.",
    )
    def stuck_agent_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        with in_one_sentence() as said:
            tick = tools.begin()
            if tick.clouds.config.wandb is None:
                return dg.SkipReason("forge.yaml has no cloud.wandb: there are no agents to watch")
            try:
                found = look(tick)
            except CloudError as error:
                return dg.SkipReason(f"whether an agent is stuck is not known: {error}")
            stuck, cursor = confirmed(found, context.cursor, tick.now)
            tick.report(context, [], [each.sentence for each in stuck], [alert(e) for e in stuck])
            counted = f"{len(stuck)} agents stuck, {len(found) - len(stuck)} under suspicion"
            return dg.SensorResult(skip_reason=counted, cursor=cursor)
        return dg.SkipReason(said.sentence)

    return stuck_agent_sensor


def look(tick: Tick) -> Sequence[StuckAgent]:
    """CloudError when W&B, or a region, could not be read whole: a job there may excuse an agent.

    A region that we may not read is left out, or one such region would silence every alert.
    """
    from resources.cloud.regions import read_regions

    wandb = tick.clouds.config.wandb
    assert wandb is not None
    client, vertex = tick.clouds.wandb, tick.clouds.vertex
    agents = [
        agent
        for agent in client.agents(wandb.entity, WANDB_SECONDS)
        if agent.status == "RUNNING" and agent.lives(tick.now)
    ]
    # Almost always: then nothing else is asked.
    if not agents:
        return []
    queues = dict.fromkeys(queue for agent in agents for queue in agent.queues)
    items = {name: _items(client, wandb.entity, name) for name in queues}
    since = tick.now - LONGEST_LOOK
    reads = read_regions(
        lambda region, left: vertex.jobs(region, since, left), tick.regions, JOBS_SECONDS
    )
    unread = [
        f"{read.region} ({read.state})" for read in reads if read.state not in ("ok", "denied")
    ]
    if unread:
        raise CloudError(f"not read whole: {', '.join(unread)}")
    return stuck_agents(agents, items, [job for read in reads for job in read.rows], tick.now)


def _items(client: "Wandb", entity: str, queue: str) -> Sequence["QueueItem"]:
    """None of a queue that is gone: its agents stay registered with it."""
    try:
        return client.items(entity, queue, WANDB_SECONDS).whole()
    except NotFound:
        return ()
