"""One launch's own id, carried as a label through every hop."""

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from resources.cloud.wandb_types import LAUNCH_KEY

if TYPE_CHECKING:
    from resources.cloud.vertex import Job, Vertex
    from resources.launch_store import Launch

LABEL = LAUNCH_KEY
"""Of the Vertex AI job. Without a hyphen: no filter of the API is known to take one."""
VARIABLE = "FORGE_LAUNCH"
"""In the environment of the runner's execution and of the job's container."""


def label_value(launch: UUID) -> str:
    """32 small hexadecimal digits: what labels allow."""
    return launch.hex


SKEW = timedelta(minutes=10)
"""Between the database's clock and Google's."""
RUN_LABEL = "wandb-run-id"
"""That W&B's Vertex runner gives a job."""


def find_by_labels(
    vertex: "Vertex", launch: "Launch", seconds: float, run: str | None
) -> "Sequence[Job]":
    """Every job of the launch, newest first: by our label, else by that of its W&B run.

    CloudError when it cannot be told.
    """
    assert launch.created_at is not None
    since = launch.created_at - SKEW
    found = vertex.find(launch.region, LABEL, label_value(launch.id), since, seconds)
    if not found and run and run == run.lower():
        found = vertex.find(launch.region, RUN_LABEL, run, since, seconds)
    return found
