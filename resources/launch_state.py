"""The states of a launch. Imports nothing that costs: definitions know them too."""

from typing import Literal

Outcome = Literal[
    "running",
    "pending",
    "queued",
    "succeeded",
    "failed",
    "cancelled",
    "expired",
    "partially_succeeded",
    "rejected",
    "runner_failed",
    "no_agent",
    "timeout",
    "unknown",
]
LaunchState = Literal["intended", Outcome]

ENDED: frozenset[LaunchState] = frozenset(
    {
        "succeeded",
        "failed",
        "cancelled",
        "expired",
        "partially_succeeded",
        "rejected",
        "runner_failed",
    }
)
"""States that nothing follows."""
UNSEEN: frozenset[LaunchState] = frozenset({"intended", "no_agent", "timeout", "unknown"})
"""Nobody has seen the job yet, and it may come or be there."""
