"""One launch from its intent to its outcome. What the terminal, Dagster and CI all call."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import uuid4

from forge_assets.cloud_config import JobSpec
from forge_assets.launches import by_queue, directly
from forge_assets.launches.clouds import Clouds
from forge_assets.launches.criterion import LaunchPreflight
from forge_assets.launches.job_request import spec_hash
from forge_assets.launches.launch_id import LABEL, label_value
from forge_assets.launches.outcome import LaunchResult
from forge_assets.launches.preflight import launch_preflight
from forge_assets.launches.queued_item import TAKEN_BACK, take_back
from forge_assets.launches.region_advice import HISTORY
from forge_assets.launches.submit import LATE_SECONDS, PAUSE_SECONDS, OutcomeUnknown, Pace
from forge_assets.launches.verdict import Under
from resources.cloud.errors import CloudError
from resources.diagnosis_store import DiagnosisStore
from resources.errors import ConfigurationError, Refusal
from resources.launch_store import Launch, LaunchStore
from resources.locks import SessionLock

CALL_SECONDS = 10.0
REMEMBERED = timedelta(days=1)
"""For so long what an older launch left in the queue is looked for."""
TAKEN_UP = timedelta(hours=1)
"""A launch that nobody saw the end of goes on with the same command as long as it is this young."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to launch: ``name`` is the job's key in forge.yaml."""

    name: str
    spec: JobSpec
    path: Literal["direct", "queue"]
    region: str

    @property
    def hash(self) -> str:
        return spec_hash(self.spec, self.path, self.region)


@dataclass(frozen=True, slots=True)
class Tools:
    """``clock``: seconds that only grow; ``wait``: seconds; ``tell``: one step, one line."""

    clouds: Clouds
    launches: LaunchStore
    diagnoses: DiagnosisStore
    lease: SessionLock
    """Of the order's job; it dies with its process."""
    holder: str
    """Who launches, for others to read."""
    now: Callable[[], datetime]
    clock: Callable[[], float]
    wait: Callable[[float], None]
    tell: Callable[[str], None]

    @property
    def pace(self) -> Pace:
        return Pace(self.wait, self.tell)


def order_of(clouds: Clouds, name: str | None, direct: bool) -> Order:
    """ConfigurationError when forge.yaml has no such job."""
    config = clouds.config
    key, spec = config.job(name)
    path: Literal["direct", "queue"] = "queue" if config.queue and not direct else "direct"
    return Order(key, spec, path, spec.region or config.region)


def launch(order: Order, tools: Tools) -> LaunchResult:
    """Refusal when the preflight says no, or somebody else launches the same job right now."""
    begun = tools.clock()
    if not tools.lease.try_acquire():
        raise Refusal(f"{order.name} is being launched already: {holder(order, tools)}")
    try:
        intent, goes_on = _intent(order, tools)
        return _outcome(order, intent, goes_on, tools, begun)
    finally:
        tools.lease.release()


def holder(order: Order, tools: Tools) -> str:
    """Who holds the lease, as far as it is written down."""
    for found in tools.launches.recent(20, tools.clouds.project):
        if found.job == order.name:
            return (
                f"launch {found.short} by {found.holder} since {_utc(found.updated_at)}"
                " holds the lease; wait for it, or end that process"
            )
    return "another process holds the lease"


def _utc(at: datetime | None) -> str:
    """The database answers in its session's zone."""
    assert at is not None
    return f"{at.astimezone(UTC):%H:%M:%S} UTC"


def _intent(order: Order, tools: Tools) -> tuple[Launch, bool]:
    """A new launch, written down; or the one that was interrupted, under its own id, and True."""
    since = tools.now() - REMEMBERED
    unseen = list(tools.launches.unseen(tools.clouds.project, order.name, since))
    same = next((each for each in unseen if _goes_on(each, order, tools.now())), None)
    for before in unseen:
        if before is not same:
            _replace(before, tools)
    if same is not None:
        tools.tell(f"launch {same.short} goes on: nobody saw how it ended")
        tools.launches.change(same.id, "taken_up", state="intended", holder=tools.holder)
        return same, True
    made = uuid4()
    intent = Launch(
        id=made,
        state="intended",
        path=order.path,
        job=order.name,
        project=tools.clouds.project,
        region=order.region,
        queue=tools.clouds.config.queue if order.path == "queue" else None,
        labels={LABEL: label_value(made)},
        spec={
            "hash": order.hash,
            "accelerator": order.spec.accelerator,
            "asked": order.spec.model_dump(mode="json"),
        },
        holder=tools.holder,
    )
    tools.tell(f"launch {intent.short}: {order.name} to {order.region}, {_way(order, tools)}")
    return tools.launches.begin(intent), False


def _replace(before: Launch, tools: Tools) -> None:
    """What an older launch of the job left in the queue must not run beside the new one."""
    tools.tell(f"launch {before.short} of {before.created_at:%b %d} was never seen to end")
    try:
        left = take_back(before, tools.clouds, CALL_SECONDS, tools.tell)
    except (CloudError, ConfigurationError) as error:
        left = f"its queue item could not be read: {error}"
    if left == TAKEN_BACK:
        reason = "replaced by a later launch"
        tools.launches.change(before.id, "replaced", state="cancelled", reason=reason)
    else:
        said = f"{left}; " if left else ""
        tools.tell(f"  {said}forge cancel {before.short} if it is not to run")


def _goes_on(before: Launch, order: Order, now: datetime) -> bool:
    assert before.created_at is not None
    return before.spec.get("hash") == order.hash and now - before.created_at < TAKEN_UP


def _way(order: Order, tools: Tools) -> str:
    return "directly" if order.path == "direct" else f"through queue {tools.clouds.config.queue}"


def _outcome(
    order: Order, intent: Launch, goes_on: bool, tools: Tools, begun: float
) -> LaunchResult:
    under = Under(
        intent,
        goes_on,
        order.spec,
        tools.clouds,
        tools.launches,
        tools.diagnoses,
        tools.now,
        lambda: tools.clock() - begun,
        tools.lease.try_acquire,
        tools.holder,
    )
    try:
        result = _reached(under, tools) or _submitted(order, under, tools)
    except OutcomeUnknown as error:
        result = under.result("unknown", reason=str(error))
    except CloudError as error:
        result = under.refused(error)
    except Refusal as error:
        # What an earlier command left in the queue is not gone with this answer.
        state = "unknown" if goes_on and order.path == "queue" else "rejected"
        tools.launches.change(intent.id, "refused", state=state, reason=str(error))
        raise
    kept = {
        "state": result.state,
        "job_name": result.job_name,
        "execution": result.execution,
        "queue_item": result.queue_item,
        "wandb_run": result.wandb_run,
        "reason": result.reason or None,
    }
    tools.launches.change(
        intent.id,
        result.outcome,
        result.as_json(),
        **{name: value for name, value in kept.items() if value is not None},
    )
    return result


def _reached(under: Under, tools: Tools) -> LaunchResult | None:
    """What a launch that goes on has come to already; a request just sent is given time to show."""
    if not under.goes_on:
        return None
    while True:
        try:
            jobs = directly.find_jobs(under, CALL_SECONDS, label_value(under.launch.id))
        except CloudError as error:
            raise OutcomeUnknown(
                f"whether launch {under.launch.short} has a job already cannot be looked up: {error}"
            ) from error
        if jobs:
            return under.found(jobs)
        sent = tools.launches.last_sent(under.launch.id)
        age = (tools.now() - sent).total_seconds() if sent else LATE_SECONDS
        if age >= LATE_SECONDS:
            return None
        tools.tell(f"its last request went out {age:.0f} s ago and may still have its effect")
        tools.wait(max(PAUSE_SECONDS, min(5.0, LATE_SECONDS - age)))


def _submitted(order: Order, under: Under, tools: Tools) -> LaunchResult:
    image = _checked(order, tools)
    if order.path == "direct":
        return directly.submitted(image, under, tools.pace)
    return by_queue.submitted(image, under, tools.clock, tools.pace)


def _checked(order: Order, tools: Tools) -> str:
    """The image, by its digest where the registry told it. Refusal for NO-GO."""
    found: LaunchPreflight = launch_preflight(
        tools.clouds,
        order.name,
        order.spec,
        order.path,
        order.region,
        now=tools.now,
        history=tools.launches.recent(HISTORY, tools.clouds.project),
    )
    for line in found.lines():
        tools.tell(line)
    if not found.go:
        raise Refusal(found.sentence)
    return found.image
