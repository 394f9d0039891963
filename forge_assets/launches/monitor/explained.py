"""What only logs tell of the rows of a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from forge_assets.launches.runner_report import RunnerReport


@dataclass(frozen=True, slots=True)
class Explained:
    """Why something failed. ``text`` is empty when nothing told in time; ``log_note`` says so."""

    text: str = ""
    advice: str = ""
    log: Sequence[str] = ()
    log_note: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """By full name. ``reports``: what a runner told of itself; ``unread``: why the others' are not
    there, "" when all are."""

    explained: Mapping[str, Explained] = field(default_factory=dict)
    reports: Mapping[str, RunnerReport] = field(default_factory=dict)
    unread: str = ""
