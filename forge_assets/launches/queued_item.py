"""The W&B Launch queue's item of a launch that is not to run any more."""

from collections.abc import Callable

from forge_assets.launches.clouds import Clouds
from resources.cloud.errors import NotFound
from resources.launch_store import Launch

TAKEN_BACK = "its queue item was taken back"
GONE = "its queue item is gone"
SETTLED = ("", TAKEN_BACK, GONE)
"""Nothing of it can become a job any more."""


def take_back(launch: Launch, clouds: Clouds, seconds: float, tell: Callable[[str], None]) -> str:
    """What became of the launch's queue item, "" for a launch without one.

    One that an agent has taken stays, since it becomes a job. CloudError when it cannot be told;
    ``seconds``: of each request.
    """
    wandb = clouds.config.wandb
    if launch.queue_item is None or launch.queue is None or wandb is None:
        return ""
    try:
        item = clouds.wandb.item(wandb.entity, launch.queue, launch.queue_item, seconds)
        if item.state == "FAILED":
            return GONE
        if item.state != "PENDING":
            return f"its queue item is {item.state}"
        clouds.wandb.remove(wandb.entity, launch.queue, launch.queue_item, seconds)
    except NotFound:
        return GONE
    tell(f"queue item {launch.queue_item} taken back")
    return TAKEN_BACK
