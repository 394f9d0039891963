"""What the ticks of the launch sensors share: clients and store of the process, and how a tick ends."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import dagster as dg

from forge_assets.cloud_config import CloudConfig
from forge_assets.launches.reporting import WATCHED, observe_once, report_untold
from resources.cloud.ask_all import in_background
from resources.cloud.regions import utc_now
from resources.database_errors import database_errors, database_sentence
from resources.errors import ConfigurationError
from sensors.polling import Polled

if TYPE_CHECKING:
    from forge_assets.launches.clouds import Clouds
    from resources.launch_store import Launch, LaunchStore

INTERVAL_SECONDS = 30
OPEN_SECONDS = 5.0
"""For the credentials: without any, Google's library asks the network whether this is its machine."""
ASK_AGAIN_SECONDS = 60.0
"""After credentials were not found."""


class TickTools:
    """Of one process. Nothing is opened before the first tick that needs it."""

    def __init__(
        self,
        config: CloudConfig | None,
        environment: Mapping[str, str] = os.environ,
        now: Callable[[], datetime] = utc_now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self._environment = environment
        self._now = now
        self._clock = clock
        self._lock = threading.Lock()
        self._opening: Future[Clouds] | None = None
        self._opened_at = 0.0

    @property
    def default_status(self) -> dg.DefaultSensorStatus:
        """Off where there is nothing to watch: a sensor that only skips fills the log of the daemon."""
        on = self.config is not None
        return dg.DefaultSensorStatus.RUNNING if on else dg.DefaultSensorStatus.STOPPED

    def begin(self) -> "Tick":
        """ConfigurationError without the section, the project or the credentials."""
        return Tick(self._clouds(), self._now())

    def _clouds(self) -> "Clouds":
        from forge_assets.launches.clouds import open_clouds

        if self.config is None:
            return open_clouds(None)
        with self._lock:
            if self._opening is None or self._is_stale(self._opening):
                self._opened_at = self._clock()
                self._opening = in_background(
                    lambda: open_clouds(self.config, self._environment), "open the clouds"
                )
            opening = self._opening
        try:
            return opening.result(OPEN_SECONDS)
        except TimeoutError:
            raise ConfigurationError(
                f"no Google credentials after {OPEN_SECONDS:g} s: run `gcloud auth"
                " application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS to a key file"
            ) from None

    def _is_stale(self, opening: "Future[Clouds]") -> bool:
        failed = opening.done() and opening.exception() is not None
        return failed and self._clock() - self._opened_at >= ASK_AGAIN_SECONDS


@dataclass(frozen=True)
class Tick:
    clouds: "Clouds"
    now: datetime

    @cached_property
    def launches(self) -> "LaunchStore":
        from resources.database import open_engine
        from resources.launch_store import LaunchStore

        return LaunchStore(open_engine())

    def watched(self) -> "Sequence[Launch]":
        return self.launches.watched(self.clouds.project, self.now - WATCHED)

    @property
    def regions(self) -> Sequence[str]:
        """The target regions first."""
        config = self.clouds.config
        targets = [config.region, *(job.region for job in config.jobs.values() if job.region)]
        return tuple(dict.fromkeys([*targets, *config.regions]))

    def report(
        self,
        context: dg.SensorEvaluationContext,
        changes: Sequence[str],
        warnings: Sequence[str],
        observations: Sequence[dg.AssetObservation],
    ) -> None:
        """To Dagster, here and not with the tick's result: only what was told is marked as told."""
        for sentence in changes:
            context.log.info(sentence)
        for sentence in warnings:
            context.log.warning(sentence)
        report_untold(context.instance, self.launches, self.clouds.project, self.now)
        observe_once(context.instance, observations, self.now - WATCHED)


@dataclass
class Said:
    sentence: str = ""


@contextmanager
def in_one_sentence() -> Iterator[Said]:
    """What is not configured skips the tick; the database's errors end it with their sentence."""
    said = Said()
    try:
        yield said
    except ConfigurationError as error:
        said.sentence = str(error)
    except Exception as error:
        if isinstance(error, database_errors()):
            raise database_sentence(error) from error
        raise


def ended_tick(
    context: dg.SensorEvaluationContext,
    polled: Polled[Any],
    requests: Sequence[dg.RunRequest],
    noun: str,
) -> dg.SensorResult | dg.SkipReason:
    """``noun``: of what was polled."""
    if polled.cursor is None:
        return dg.SkipReason(f"no region could be read: {'; '.join(polled.unread)}")
    for sentence in polled.unread:
        context.log.warning(f"not read whole: {sentence}")
    cursor = polled.cursor.text()
    if requests:
        return dg.SensorResult(run_requests=list(requests), cursor=cursor)
    pending = sum(1 for known in polled.cursor.known.values() if not known.is_over)
    counted = f"{len(polled.changed)} {noun}s changed, {pending} not over"
    unread = f"; {len(polled.unread)} regions not read whole" if polled.unread else ""
    return dg.SensorResult(skip_reason=counted + unread, cursor=cursor)
