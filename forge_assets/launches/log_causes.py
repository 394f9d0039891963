"""What a log tells about why something failed: its causes, the best of them, the lines around it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from forge_assets.launches.catalogue import Cause, classify
from forge_assets.launches.log_blocks import Block, blocks
from resources.cloud.log_entry import LogEntry

NO_FAILURE = frozenset({"monitor_quota", "monitor_network", "duplicate", "quota_wait"})
"""Classes that say nothing against the thing whose log has them."""

# What tells more comes first. A traceback beside a kill is a consequence of it, or has nothing to do
# with it; beside an exit status it is the reason.
_SPECIFIC, _KILLED, _TRACEBACK, _PASSING, _EXIT, _SUMMARY, _UNKNOWN = range(7)
ABOVE_AN_EXIT = _EXIT - 0.5
RANKS = {
    "V08": _KILLED,
    "V09": _KILLED,
    "V12": _KILLED,
    "R03": _KILLED,
    "D01": _TRACEBACK,
    "G02": _TRACEBACK,
    "R08": _PASSING,
    "W01": _PASSING,
    "R04": _EXIT,
    "V11": _EXIT,
    "B04": _EXIT,
    "R07": _SUMMARY,
    "W03": _SUMMARY,
    "W10": _SUMMARY,
}
"""Of the entries that are no cause of their own, by id; every other one is."""

_BURST = timedelta(seconds=60)
"""What fails drags others down: of causes this close together, and alike, the first one counts."""
_TIMED_OUT, _KILL = "R01", "R03"
_FOLLOWER = "G02"
"""Comes minutes after the rank that failed, from those that waited for it."""


@dataclass(frozen=True, slots=True)
class Found:
    """A cause and where in the log it stands: the index of its block, and when it was told."""

    cause: Cause
    block: int
    at: datetime
    is_audit: bool


class LogText:
    """The entries of one resource, tracebacks put together.

    Without the events of our runner: they repeat lines of the log, and its report is read from them.
    """

    def __init__(self, entries: Iterable[LogEntry]) -> None:
        self._blocks = blocks(entry for entry in entries if not _is_event(entry))
        self.causes = [found for index in range(len(self._blocks)) if (found := self._found(index))]
        """Oldest first, without those that are no failure."""

    def best(
        self,
        killed: datetime | None = None,
        is_counted: Callable[[Cause], bool] = lambda cause: True,
    ) -> Found | None:
        """The cause that tells most, of the last ones: what came long before was survived.

        ``killed``: when a signal ended the process, if one did. A kill within a minute of a time-out
        is that time-out; a time-out long before a kill was that of another attempt.
        """
        kills = [found.at for found in self.causes if found.cause.entry.id == _KILL]
        last_kill = max([*kills, *([killed] if killed else [])], default=None)
        counted = [
            found
            for found in self.causes
            if is_counted(found.cause)
            and (
                found.cause.entry.id != _TIMED_OUT
                or last_kill is None
                or last_kill - found.at <= _BURST
            )
        ]
        why = [found for found in counted if tells_why(found.cause)]
        own = [found for found in why if found.cause.entry.id != _FOLLOWER]
        for group in (own, why, counted):
            if group:
                last = max(found.at for found in group)
                burst = [found for found in group if last - found.at <= _BURST]
                return min(burst, key=lambda found: rank(found.cause))
        return None

    def around(self, centre: int | None, at_most: int) -> tuple[str, ...]:
        """Lines around a block, or the last ones; no traceback is cut.

        More than ``at_most`` lines only where the block alone has more.
        """
        sizes = [len(_lines(block)) for block in self._blocks]
        if centre is None:
            centre = len(sizes) - 1
        if centre < 0:
            return ()
        room = max(0, at_most - sizes[centre])
        older = sizes[:centre][::-1]
        # What came before tells more than what came after.
        before, used = _fitting(older, room * 2 // 3)
        after, used_after = _fitting(sizes[centre + 1 :], room - used)
        more, _ = _fitting(older[before:], room - used - used_after)
        shown = self._blocks[centre - before - more : centre + 1 + after]
        return tuple(line for block in shown for line in _lines(block))

    def _found(self, index: int) -> Found | None:
        block = self._blocks[index]
        cause = classify(block.text)
        if cause is None or cause.entry.error_class in NO_FAILURE:
            return None
        last = block.entries[-1]
        return Found(cause, index, last.at, "cloudaudit.googleapis.com" in last.writer[0])


def rank(cause: Cause | None) -> int:
    """The lower, the more a cause tells."""
    return _UNKNOWN if cause is None else RANKS.get(cause.entry.id, _SPECIFIC)


def is_summary(cause: Cause) -> bool:
    """Whether it only tells that something failed."""
    return rank(cause) == _SUMMARY


def tells_why(cause: Cause | None) -> bool:
    """Whether no line of a log can tell more than how it was told already."""
    return rank(cause) <= _TRACEBACK


def is_exit(cause: Cause | None) -> bool:
    """Whether it only tells that a program ended with an error."""
    return rank(cause) == _EXIT


def is_specific(cause: Cause | None) -> bool:
    return rank(cause) == _SPECIFIC


def _is_event(entry: LogEntry) -> bool:
    return entry.text.startswith("{") and '"forge_runner"' in entry.text


def _lines(block: Block) -> list[str]:
    return block.text.split("\n")


def _fitting(sizes: Sequence[int], room: int) -> tuple[int, int]:
    """How many of the first blocks fit whole, and the lines they take."""
    used = 0
    for count, size in enumerate(sizes):
        if used + size > room:
            return count, used
        used += size
    return len(sizes), used
