"""One execution watched until it has ended, and its log read: rarely, and once more for late lines."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from forge_assets.launches.log_causes import LogText, tells_why
from forge_assets.launches.log_reader import (
    LATE,
    LogReader,
    in_order,
    key_of,
    late_lines_are_in,
    window,
)
from forge_assets.launches.reason import LOG, NOTHING, Reason
from forge_assets.launches.reasons import runner_report_reason
from resources.cloud.cloud_run import Execution
from resources.cloud.errors import CloudError, Denied, NotFound, Refused
from resources.cloud.log_entry import LogEntry
from resources.cloud.logs import of_execution

if TYPE_CHECKING:
    from resources.cloud.cloud_run import CloudRun

INTERVAL_SECONDS = 5.0
CALL_SECONDS = 5.0
LOG_SECONDS = 30.0
APPEARS_SECONDS = 20.0
"""How long the API may not know an execution that was just started."""
MOST_LINES = 10_000
"""Of one read: half of what a minute allows."""

_FIRST_READ_SECONDS, _LONGEST_PAUSE_SECONDS = 15.0, 120.0
_LATE_LINES_SECONDS = (5.0, 10.0, 15.0, 30.0, 30.0)
"""Waits before reads after the end. The later ones are for a failure that its log does not tell yet."""

# The agent survives it: the next try may have passed.
_PASSING = "transient"


class ExecutionWatch:
    """``now`` and ``wait`` go by the same clock. ``tell`` gets one sentence for every change."""

    def __init__(
        self,
        cloud_run: "CloudRun",
        reader: LogReader,
        now: Callable[[], datetime],
        wait: Callable[[float], None],
        tell: Callable[[str], None],
    ) -> None:
        self._cloud_run = cloud_run
        self._reader = reader
        self._now = now
        self._wait = wait
        self._tell = tell
        self._told: dict[str, str] = {}
        """What was told last, of the state and of the log."""
        self._execution: Execution | None = None
        self._entries: dict[tuple[object, ...], LogEntry] = {}
        self._read_at: datetime | None = None
        """When the last read was made that brought all there was."""
        self._unseen = ""
        """Why the state could not be read the last time."""
        self._unread = ""
        """Why the log could not be read the last time, wholly or in part."""

    def run(self, name: str, region: str, seconds: float) -> tuple[bool, bool, list[str]]:
        """Has error, success, all lines. ``name``: full or short. No CloudError is raised."""
        end = self._now() + timedelta(seconds=seconds)
        self._until_over(name, region, end)
        if self._execution is None:
            return False, False, [f"the state of {name} is not known: {self._unseen}"]
        self._read_to_the_end(self._execution, end)
        return self._answer(self._execution)

    def _until_over(self, name: str, region: str, end: datetime) -> None:
        began, pause = self._now(), _FIRST_READ_SECONDS
        next_read = began + timedelta(seconds=pause)
        while True:
            goes_on = self._look(name, region, began)
            now = self._now()
            if not goes_on or now >= end:
                return
            if self._execution is not None and now >= next_read:
                refused = self._read(self._execution)
                next_read = self._now() + timedelta(seconds=max(pause, refused))
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
                self._tell_error()
            self._wait_until(end, INTERVAL_SECONDS)

    def _look(self, name: str, region: str, began: datetime) -> bool:
        """Whether to look again."""
        seen = self._execution
        try:
            if seen is None:
                seen = find_execution(self._cloud_run, name, region, CALL_SECONDS)
            else:
                seen = self._cloud_run.execution(seen.name, CALL_SECONDS)
        except CloudError as error:
            self._unseen = str(error)
            self._say("state", f"the state of {name} cannot be read: {error}")
            waited = (self._now() - began).total_seconds()
            if isinstance(error, NotFound):
                return self._execution is None and waited < APPEARS_SECONDS
            return not isinstance(error, Denied | Refused)
        self._execution, self._unseen = seen, ""
        short = seen.name.rsplit("/", 1)[-1]
        self._say(
            "state", f"{short} is {seen.state}" + (f": {seen.message}" if seen.message else "")
        )
        return not seen.is_over

    def _read_to_the_end(self, execution: Execution, end: datetime) -> None:
        if not execution.is_over or late_lines_are_in(execution, self._now()):
            self._read_when_allowed(execution, end)
            return
        for seconds in _LATE_LINES_SECONDS:
            in_time = self._wait_until(end, seconds)
            self._read_when_allowed(execution, end)
            if not in_time or execution.state != "FAILED" or tells_why(self._error().cause):
                return

    def _read_when_allowed(self, execution: Execution, end: datetime) -> None:
        while (refused := self._read(execution)) and self._wait_until(end, refused):
            pass
        self._tell_error()

    def _read(self, execution: Execution) -> float:
        """Seconds until a read is allowed, 0.0 when this one was."""
        began = self._now()
        since, until = window(execution, began)
        if self._read_at is not None:
            since = max(since, self._read_at - LATE)
        condition = of_execution(execution.name)
        read = self._reader.read(condition, since, until, MOST_LINES, LOG_SECONDS)
        self._entries |= {key_of(entry): entry for entry in read.entries}
        self._unread = read.note if read.said or read.is_cut else ""
        if not read.said:
            self._read_at = began
        return read.wait

    def _answer(self, execution: Execution) -> tuple[bool, bool, list[str]]:
        success = execution.state == "SUCCEEDED"
        failed = execution.is_over and not success
        lines = [entry.text for entry in in_order(list(self._entries.values()))]
        if self._unread:
            lines.append(f"log of {execution.name.rsplit('/', 1)[-1]}: {self._unread}")
        if self._unseen:
            lines.append(f"its last known state is {execution.state}: {self._unseen}")
        return failed or self._error().source != NOTHING, success, lines

    def _error(self) -> Reason:
        """What the log so far tells of a fault; nothing for none."""
        log = in_order(list(self._entries.values()))
        reported = runner_report_reason(log)
        if reported.source != NOTHING:
            return reported
        best = LogText(log).best(is_counted=lambda cause: cause.entry.error_class != _PASSING)
        return Reason(LOG, best.cause.line, best.cause) if best else reported

    def _tell_error(self) -> None:
        error = self._error()
        if error.source != NOTHING:
            self._say("log", f"error found: {error.text}")
        elif self._unread:
            self._say("log", f"log: {self._unread}")

    def _say(self, of: str, sentence: str) -> None:
        if self._told.get(of) != sentence:
            self._told[of] = sentence
            self._tell(sentence)

    def _wait_until(self, end: datetime, seconds: float) -> bool:
        """False when ``end`` came first."""
        left = (end - self._now()).total_seconds()
        if left > 0:
            self._wait(min(seconds, left))
        return left > seconds


def find_execution(cloud_run: "CloudRun", name: str, region: str, seconds: float) -> Execution:
    """By its full name, or by its short one: Cloud Run puts a dash and its own end to the job's."""
    if "/" not in name:
        job = cloud_run.job_name(region, name.rsplit("-", 1)[0])
        name = f"{job}/executions/{name}"
    return cloud_run.execution(name, seconds)
