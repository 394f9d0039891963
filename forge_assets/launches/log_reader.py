"""Reads of Cloud Logging: all processes of the project share the few that a minute allows."""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.exc import InterfaceError, OperationalError

from resources.cloud.cloud_run import Execution
from resources.cloud.connections import LOGGING
from resources.cloud.errors import CloudError, Throttled, TimedOut
from resources.cloud.log_entry import LogEntry
from resources.cloud.logs import Logs, of_execution, of_job
from resources.cloud.vertex import Job
from resources.diagnosis_store import DiagnosisStore

BUDGET = "cloud-logging"
PAGE = 1000
"""Entries that one read brings at most."""
LATE = timedelta(minutes=5)
"""After this a line that was written has arrived: 5 to 15 s are usual, minutes the worst seen."""

# Google gives no hint with its 429 and counts by the minute.
_PAUSE_SECONDS = 30.0
_LONGEST_PAUSE_SECONDS = 60.0
_MARGIN = timedelta(minutes=1)
"""Two clocks differ, and what the system did comes before the resource's own first time."""


@dataclass(frozen=True, slots=True)
class LogRead:
    """``entries``: oldest first. ``said``: why some or all are missing, "" when none are.

    ``wait``: seconds until a read is allowed again, 0.0 when it was not for the budget.
    ``is_cut``: there may be older entries than were asked for.
    """

    entries: tuple[LogEntry, ...]
    said: str = ""
    wait: float = 0.0
    is_cut: bool = False

    @property
    def is_read(self) -> bool:
        """At least in part."""
        return bool(self.entries) or not self.said

    @property
    def is_whole(self) -> bool:
        return not (self.said or self.is_cut)

    @property
    def note(self) -> str:
        """How much was read, "" for all of it."""
        if self.said:
            got = f"only the newest {len(self.entries)} lines" if self.is_read else "not read"
            return f"{got}: {self.said}"
        if self.is_cut:
            return f"only the newest {len(self.entries)} lines"
        return "" if self.entries else "no log lines"


class LogReader:
    """``diagnoses`` None: only the client's own limit holds, which is that of one process.

    No read raises CloudError: a log that cannot be read is no failure of what it is about.
    """

    def __init__(self, logs: Logs, diagnoses: DiagnosisStore | None) -> None:
        self._logs = logs
        self._diagnoses = diagnoses

    def read(
        self, condition: str, since: datetime, until: datetime, at_most: int, seconds: float
    ) -> LogRead:
        """The newest ``at_most`` entries of the window; one of the budget's reads for each page.

        ``seconds``: deadline of all pages together.
        """
        end = time.monotonic() + seconds
        found: dict[tuple[object, ...], LogEntry] = {}
        size = min(PAGE, at_most)

        def made(said: str = "", wait: float = 0.0, is_cut: bool = False) -> LogRead:
            newest = in_order(list(found.values()))[-at_most:]
            return LogRead(newest, said, wait, is_cut)

        while True:
            try:
                left = end - time.monotonic()
                if left <= 0:
                    raise TimedOut("no time left for the log")
                self._take()
                listing = self._logs.entries(condition, since, until, size, left)
            except CloudError as error:
                return made(str(error), self._heeded(error))
            before = len(found)
            found |= {key_of(entry): entry for entry in listing.rows}
            if listing.missing is not None:
                return made(str(listing.missing), self._heeded(listing.missing))
            if len(listing.rows) < size:
                return made(is_cut=len(found) > at_most)
            if len(found) >= at_most or len(found) == before:
                return made(is_cut=True)
            # With the same time again, which we know without its nanoseconds: other entries of it may
            # be left. What comes twice is kept once.
            until = listing.rows[0].at + timedelta(microseconds=1)

    def of_execution(
        self, execution: Execution, now: datetime, seconds: float, at_most: int = PAGE
    ) -> LogRead:
        """What it wrote and what the system wrote about it."""
        since, until = window(execution, now)
        return self.read(of_execution(execution.name), since, until, at_most, seconds)

    def of_job(self, job: Job, now: datetime, seconds: float, at_most: int = PAGE) -> LogRead:
        """What its workers wrote."""
        since, until = window(job, now)
        return self.read(of_job(job.name), since, until, at_most, seconds)

    def _take(self) -> None:
        """One read of the shared budget. Throttled when there is none now."""
        wait = 0.0
        if self._diagnoses is not None:
            with store_may_be_away():
                wait = self._diagnoses.take_read(BUDGET, LOGGING.per_minute, LOGGING.burst)
        if wait:
            raise Throttled(
                f"throttled, {LOGGING.per_minute:.0f} log reads a minute are ours and the next one "
                f"is in {wait:.0f} s",
                retry_after=wait,
            )

    def _heeded(self, error: CloudError) -> float:
        """Seconds until a read is allowed; a refusal of Google's own stops the reads of all."""
        if not isinstance(error, Throttled):
            return 0.0
        pause = _PAUSE_SECONDS if error.retry_after is None else error.retry_after
        pause = min(pause, _LONGEST_PAUSE_SECONDS)
        # Our own limits refuse without a status.
        if error.code and self._diagnoses is not None:
            with store_may_be_away():
                self._diagnoses.pause_reads(BUDGET, LOGGING.per_minute, LOGGING.burst, pause)
        return pause


def store_may_be_away() -> contextlib.AbstractContextManager[None]:
    """The reason is told without the store too: then the client's own limit holds, and none is kept."""
    return contextlib.suppress(OperationalError, InterfaceError)


def key_of(entry: LogEntry) -> tuple[object, ...]:
    """What tells an entry from every other: its id is one only within its time and log."""
    return entry.at, entry.insert_id, entry.writer


def window(resource: Execution | Job, now: datetime) -> tuple[datetime, datetime]:
    """The times between which its lines are."""
    return resource.created - _MARGIN, (resource.ended or now) + LATE


def late_lines_are_in(resource: Execution | Job, now: datetime) -> bool:
    """Whether it ended long enough ago for its last lines to have arrived."""
    return resource.ended is not None and now - resource.ended > LATE


def in_order(entries: Sequence[LogEntry]) -> tuple[LogEntry, ...]:
    return tuple(sorted(entries, key=lambda entry: (entry.at, entry.insert_id)))
