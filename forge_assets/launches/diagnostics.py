"""What the log of a runner's execution tells, for whoever has only its name."""

import functools
import os
import re
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from forge_assets.cloud_config import CloudConfig
from forge_assets.launches.clouds import Clouds
from forge_assets.launches.execution_watch import (
    CALL_SECONDS,
    LOG_SECONDS,
    ExecutionWatch,
    find_execution,
)
from forge_assets.launches.kept_diagnoses import open_diagnoses
from forge_assets.launches.log_reader import LogRead, LogReader
from forge_assets.launches.reasons import CONTEXT_LINES, execution_reason, log_reason
from resources.cloud.cloud_run import Execution
from resources.cloud.connections import CLOUD_RUN, LOGGING
from resources.cloud.credentials import ENDPOINTS, access
from resources.cloud.errors import CloudError
from resources.cloud.regions import utc_now
from resources.errors import ConfigurationError

_EXECUTION = re.compile(
    r"(?:projects/[^/\s]+/locations/[^/\s]+/jobs/[^/\s]+/executions/)?[A-Za-z0-9][\w-]*"
)
_REGION = re.compile(r"[a-z][a-z0-9-]*")
_BUDGET_PATIENCE_SECONDS = 65.0
"""The budget of reads is one of a minute."""


def parse_runner_logs_for_errors(
    execution_name: str,
    project_id: str,
    region: str,
    timeout_seconds: float = 900,
    status_callback: Callable[[str], None] | None = None,
) -> tuple[bool, bool, list[str]]:
    """Watch an execution until it has ended or the time is over: has_error, success, all_logs.

    ``execution_name``: short (``vertex-ai-launcher-kbflt``) or full. ``has_error``: it ended other
    than SUCCEEDED, or its log tells a fault. ``success``: it ended SUCCEEDED, also beside an error
    that it survived. ``all_logs``: every line, oldest first. ``status_callback`` gets one sentence
    for every change.

    What is not known is no success: (False, False, logs) for what still runs, or whose state cannot
    be read; the last line says which. A log that cannot be read is told the same way. No error of the
    cloud is raised; ConfigurationError without a project or credentials, and for a name that none
    can have.
    """
    _check_names(execution_name, region)
    if not timeout_seconds >= 0:
        raise ConfigurationError(f"timeout_seconds is {timeout_seconds}: give seconds from 0 on")
    clouds = _clouds(project_id)
    watch = ExecutionWatch(
        clouds.cloud_run,
        LogReader(clouds.logs, open_diagnoses()),
        _steady_clock(),
        time.sleep,
        status_callback or (lambda sentence: None),
    )
    return watch.run(execution_name, region, timeout_seconds)


def fetch_detailed_error_context(
    execution_name: str, project_id: str, region: str, context_lines: int = CONTEXT_LINES
) -> list[str]:
    """The lines of an execution's log around what made it fail, else its last ones; none is cut.

    A traceback is whole, also where it alone has more than ``context_lines``. Empty only when there
    is no line; one sentence when the log cannot be read. ConfigurationError without a project or
    credentials, and for a name that none can have.
    """
    _check_names(execution_name, region)
    clouds = _clouds(project_id)
    diagnoses = open_diagnoses()
    try:
        execution = find_execution(clouds.cloud_run, execution_name, region, CALL_SECONDS)
    except CloudError as error:
        return [f"{execution_name} cannot be read: {error}"]
    if execution.state == "FAILED" and context_lines == CONTEXT_LINES:
        # Kept for ever, and so read once.
        reason = execution_reason(clouds, diagnoses, execution, LOG_SECONDS, utc_now())
        if reason.context or reason.is_read:
            return list(reason.context)
    log = patient_read(LogReader(clouds.logs, diagnoses), execution, utc_now, time.sleep)
    if not log.entries and log.said:
        return [f"the log of {execution_name} was {log.note}"]
    return list(log_reason(log.entries, context_lines=max(1, context_lines)).context)


def patient_read(
    reader: LogReader,
    execution: Execution,
    now: Callable[[], datetime],
    wait: Callable[[float], None],
) -> LogRead:
    """Waits for the budget of reads, a minute at most."""
    left = _BUDGET_PATIENCE_SECONDS
    while True:
        log = reader.of_execution(execution, now(), LOG_SECONDS)
        if log.entries or not log.wait or log.wait > left:
            return log
        wait(log.wait)
        left -= log.wait


def _check_names(execution: str, region: str) -> None:
    if not isinstance(execution, str) or not _EXECUTION.fullmatch(execution):
        raise ConfigurationError(
            f"{execution!r} names no execution: give its name, such as vertex-ai-launcher-kbflt"
        )
    if not isinstance(region, str) or not _REGION.fullmatch(region):
        raise ConfigurationError(f"{region!r} is no region: give one such as us-central1")


def _clouds(project_id: str) -> Clouds:
    endpoints = tuple((name, os.environ.get(name, "")) for name in ENDPOINTS)
    return _kept_clouds(project_id, endpoints, os.getpid())


@functools.lru_cache(maxsize=8)
def _kept_clouds(project_id: str, endpoints: tuple[tuple[str, str], ...], process: int) -> Clouds:
    """Kept, since a client's limit counts its own calls; a process never uses its parent's."""
    needed = (CLOUD_RUN.variable, LOGGING.variable)
    return Clouds(CloudConfig(), access(project_id, os.environ, needed), os.environ)


def _steady_clock() -> Callable[[], datetime]:
    """The time of day as it was, going on however the machine's clock is set."""
    began, start = utc_now(), time.monotonic()
    return lambda: began + timedelta(seconds=time.monotonic() - start)
