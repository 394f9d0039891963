"""A job that a W&B Launch agent creates: runner, queue item, then the watch for the job."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from forge_assets.cloud_config import WandbSpec
from forge_assets.launches.confirm import Item, Looks, Seen, watch
from forge_assets.launches.directly import find_jobs
from forge_assets.launches.job_request import queue_item
from forge_assets.launches.launch_id import label_value
from forge_assets.launches.outcome import TIMEOUT_REASONS, LaunchResult
from forge_assets.launches.queued_item import SETTLED, take_back
from forge_assets.launches.runner import Runner, ensure_runner
from forge_assets.launches.submit import OutcomeUnknown, Pace, once
from forge_assets.launches.verdict import Under, hops
from resources.cloud.cloud_run import Execution
from resources.cloud.errors import CloudError
from resources.cloud.resource_name import short

CALL_SECONDS = 10.0
TAKE_BACK_SECONDS = 3.0


def submitted(
    image: str,
    under: Under,
    clock: Callable[[], float],
    pace: Pace,
) -> LaunchResult:
    """See to a runner and to one item in the queue, then watch for the job."""
    wandb = under.clouds.config.wandb
    assert wandb is not None
    runner = _runner(under, pace)
    if isinstance(runner, LaunchResult):
        return runner
    item = _item(image, under, wandb, pace)
    pace.tell("polling Vertex AI every 5 s for the job")
    seen = watch(_looks(under, wandb, runner, item), clock, pace.wait)
    return _judged(seen, under, wandb, runner, item, pace)


def _runner(under: Under, pace: Pace) -> Runner | LaunchResult | None:
    """A result when none can be had; None where forge.yaml names none: the agents are somebody else's."""
    launch, clouds = under.launch, under.clouds
    if clouds.config.runner is None:
        return None
    try:
        runner = ensure_runner(clouds.cloud_run, clouds.config, launch.id, under.now(), pace)
    except CloudError as error:
        if under.goes_on:
            raise OutcomeUnknown(
                f"no runner can be had ({error}), and what an earlier command put into the queue may"
                " still be there"
            ) from error
        return under.runner_refused(error)
    under.launches.change(
        launch.id, "runner", {"reused": runner.reused}, execution=runner.execution.name
    )
    return runner


def _item(
    image: str,
    under: Under,
    wandb: WandbSpec,
    pace: Pace,
) -> str:
    """The queue's item of this launch: pushed, or there already."""
    launch, clouds = under.launch, under.clouds
    client, queue = clouds.wandb, wandb.queue
    assert queue is not None
    run_spec: Mapping[str, Any] = queue_item(
        launch.job, under.spec, image, launch.id, launch.region, clouds.config, wandb
    )

    def look() -> str | None:
        found = client.find_item(wandb.entity, queue, label_value(launch.id), CALL_SECONDS)
        return found.id if found else None

    def push() -> str:
        under.sending("push_sent", image=image)
        return client.push(wandb.entity, queue, run_spec, CALL_SECONDS)

    item = None
    if under.goes_on:
        try:
            item = look()
        except CloudError as error:
            raise OutcomeUnknown(
                f"whether launch {launch.short} is in queue {queue} already cannot be looked"
                f" up: {error}"
            ) from error
    if item is None:
        item = once(push, look, "the push to the queue", pace)
        pace.tell(f"queue item {item} in {queue}")
    else:
        pace.tell(f"queue item {item} is in {queue} already")
    under.launches.change(launch.id, "item", queue_item=item, wandb_run=label_value(launch.id))
    return item


def _looks(under: Under, wandb: WandbSpec, runner: Runner | None, item: str) -> Looks:
    clouds, run = under.clouds, label_value(under.launch.id)
    queue = wandb.queue
    assert queue is not None

    # An agent may give the run another id than ours.
    runs = [run]

    def look_at_item(seconds: float) -> Item:
        found = clouds.wandb.item(wandb.entity, queue, item, seconds)
        if found.run_id:
            runs[0] = found.run_id
        return Item(found.state, found.run_id)

    def look_at_execution(seconds: float) -> Execution:
        assert runner is not None
        return clouds.cloud_run.execution(runner.execution.name, seconds)

    return Looks(
        jobs=lambda seconds: find_jobs(under, seconds, runs[0]),
        execution=look_at_execution if runner else None,
        item=look_at_item,
    )


def _judged(
    seen: Seen, under: Under, wandb: WandbSpec, runner: Runner | None, item: str, pace: Pace
) -> LaunchResult:
    execution = runner.execution.name if runner else ""
    known: dict[str, Any] = {
        "queue_item": item,
        "execution": execution or None,
        "wandb_run": (seen.item.run if seen.item else None) or label_value(under.launch.id),
        "hops": hops(seen, item, execution),
    }
    match seen.ended:
        case "job":
            return under.found(seen.jobs, **known)
        case "runner" if seen.execution is not None:
            if seen.execution.state != "SUCCEEDED":
                failed = under.runner_failed(seen.execution, **known)
            else:
                reason = f"the runner {short(execution)} ended without having taken it"
                failed = under.result("no_agent", reason=reason, **known)
            return _without_item(failed, under, item, pace)
        case "item":
            return under.item_failed(seen.execution, **known)
    absent = _nobody(under, wandb, seen)
    if absent:
        nobody = under.result("no_agent", reason=absent, **known)
        return _without_item(nobody, under, item, pace)
    taken = seen.item is not None and seen.item.state in ("LEASED", "CLAIMED")
    reasons = TIMEOUT_REASONS[:2] if taken else TIMEOUT_REASONS
    return under.result("timeout", advice=reasons, reason=under.no_job(seen), **known)


def _without_item(failed: LaunchResult, under: Under, item: str, pace: Pace) -> LaunchResult:
    """Its item is removed, so that no agent starts what was reported as failed; or what is left of it."""
    launch = replace(under.launch, queue_item=item)
    try:
        left = take_back(launch, under.clouds, TAKE_BACK_SECONDS, pace.tell)
    except CloudError as error:
        left = f"its queue item may still be there: {error}"
    if left in SETTLED:
        return failed
    advice = f"{left}; forge cancel {launch.short} if it is not to run"
    return replace(failed, left=left, advice=(*failed.advice, advice))


def _nobody(under: Under, wandb: WandbSpec, seen: Seen) -> str:
    """Why nobody can take the item; "" when somebody may, or when that cannot be told."""
    if seen.execution is not None and not seen.execution.is_over:
        return ""
    if seen.item is None or seen.item.state != "PENDING":
        return ""
    try:
        agents = under.clouds.wandb.agents(wandb.entity, CALL_SECONDS)
    except CloudError:
        return ""
    assert wandb.queue is not None
    if any(agent.polls(wandb.queue) and agent.lives(under.now()) for agent in agents):
        return ""
    return f"no agent polls queue {wandb.queue}"
