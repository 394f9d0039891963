"""One launch's own id, carried as a label through every hop."""

from uuid import UUID

from resources.cloud.wandb_types import LAUNCH_KEY

LABEL = LAUNCH_KEY
"""Of the Vertex AI job. Without a hyphen: no filter of the API is known to take one."""
VARIABLE = "FORGE_LAUNCH"
"""In the environment of the runner's execution and of the job's container."""


def label_value(launch: UUID) -> str:
    """32 small hexadecimal digits: what labels allow."""
    return launch.hex
