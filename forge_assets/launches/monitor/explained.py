"""What only logs tell of the rows of a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Explained:
    """Why something failed. ``text`` is empty when nothing told in time; ``log_note`` says so."""

    text: str = ""
    advice: str = ""
    log: Sequence[str] = ()
    log_note: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """By full name. ``runs``: jobs that a runner took so far, None for not told; ``runs_note``: why
    none were counted, "" when they were."""

    explained: Mapping[str, Explained] = field(default_factory=dict)
    runs: Mapping[str, int | None] = field(default_factory=dict)
    runs_note: str = ""
