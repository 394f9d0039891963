"""What of a launch's preflight W&B tells: the queue, and the agents that poll it. Pure."""

from collections.abc import Sequence
from datetime import datetime

from forge_assets.cloud_config import WandbSpec
from forge_assets.launches.criterion import Criterion
from resources.cloud.errors import CloudError, Denied, NotFound, Refused
from resources.cloud.wandb_types import Agent, Queue
from resources.errors import ConfigurationError


def no_queue() -> Criterion:
    fix = "set `wandb: {entity: E, project: P, queue: Q}` in cloud of forge.yaml, or use --direct"
    return Criterion("queue", "no", "forge.yaml names no W&B queue", fix)


def queue(answer: Queue | CloudError | ConfigurationError, spec: WandbSpec) -> Criterion:
    what = "queue"
    if isinstance(answer, Queue):
        if answer.type and "vertex" not in answer.type.lower():
            said = f"{spec.queue} is of type {answer.type}, its agents start no Vertex AI jobs"
            fix = "create a Vertex AI queue in W&B Launch and set cloud.wandb.queue to it"
            return Criterion(what, "no", said, fix)
        kind = answer.type or "its type is not told"
        return Criterion(what, "ok", f"{spec.entity}/{spec.queue}, {kind}")
    if isinstance(answer, NotFound):
        fix = (
            f"create queue {spec.queue} of {spec.entity} in W&B Launch, or correct cloud.wandb.queue "
            "and cloud.wandb.entity in forge.yaml"
        )
        said = f"W&B knows no queue {spec.entity}/{spec.queue}, or the key may not see it"
        return Criterion(what, "no", said, fix)
    return _unanswered(what, answer)


def agents(
    answer: Sequence[Agent] | CloudError | ConfigurationError,
    found: Queue | CloudError | ConfigurationError,
    spec: WandbSpec,
    now: datetime,
) -> Criterion:
    """Where forge.yaml has no cloud.runner, somebody else's agent must poll the queue."""
    what = "agent"
    if isinstance(answer, CloudError | ConfigurationError):
        return _unanswered(what, answer)
    assert spec.queue is not None
    queue_id = found.id if isinstance(found, Queue) else ""
    polling = [a for a in answer if a.polls(spec.queue, queue_id) and a.lives(now)]
    if polling:
        listed = ", ".join(f"{agent.name} ({agent.status})" for agent in polling[:3])
        return Criterion(what, "ok", f"{spec.queue} is polled by {listed}")
    fix = (
        f"wandb launch-agent --entity {spec.entity} --queue {spec.queue}, or add `runner: "
        "{image: IMAGE-OF-DEPLOY-RUNNER}` to cloud of forge.yaml, or launch with --direct"
    )
    return Criterion(what, "no", f"no living agent polls {spec.queue}", fix)


def _unanswered(what: str, error: CloudError | ConfigurationError) -> Criterion:
    if isinstance(error, ConfigurationError):
        # Its sentence ends with the fix.
        return Criterion(what, "no", str(error))
    if isinstance(error, Denied):
        fix = "set WANDB_API_KEY to a key of a member of cloud.wandb.entity"
        return Criterion(what, "no", str(error), fix)
    # A server that does not know what we ask for may still take what we push.
    silent = isinstance(error, NotFound | Refused)
    return Criterion(what, "unknown", str(error), needed=not silent)
