"""The background sampler of a run: readings for the store, and a word when a limit stays broken."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Self

import sqlalchemy as sa

from resources.machine_limits import Criterion, Limits, criteria
from resources.machine_reading import DATABASE_MILLISECONDS, MachineSample, take_sample
from resources.store_types import ResourceSample

__all__ = [
    "Criterion",
    "LimitWatch",
    "Limits",
    "MachineSample",
    "Monitor",
    "criteria",
    "take_sample",
]

_STOP_SECONDS = 10.0
_log = logging.getLogger(__name__)


class LimitWatch:
    """Tells a limit that is broken for a moment from one that stays broken.

    ``clock`` gives seconds; only differences count.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        gpu_configured: bool,
        patience: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._gpu_configured = gpu_configured
        self._patience = patience
        self._clock = clock
        self._broken_since: dict[str, float] = {}
        self._breach: str | None = None

    def observe(self, reading: MachineSample) -> None:
        """Take note of a reading. A limit that holds again starts from zero when it breaks next."""
        now = self._clock()
        broken = {
            criterion.name: criterion.detail
            for criterion in criteria(reading, self._limits, self._gpu_configured)
            if criterion.status == "no_go"
        }
        self._broken_since = {name: self._broken_since.get(name, now) for name in broken}
        if self._breach is None:
            for name, since in self._broken_since.items():
                if now - since >= self._patience:
                    self._breach = (
                        f"{name} beyond its limit for {now - since:.0f} s: {broken[name]}"
                    )
                    break

    @property
    def breach(self) -> str | None:
        """The first limit that stayed broken for the patience; it is never taken back."""
        return self._breach


class Monitor:
    """Samples the machine every ``interval`` seconds, in a thread with its own database connection.

    ``keep`` gets every reading as a row of the run. A reading that fails never ends the thread: it
    is counted in ``failures``, the latest reason is in ``last_failure``, and it neither breaks nor
    mends a limit. Use it as a context, or ``start`` and ``stop`` it.
    """

    def __init__(
        self,
        engine: sa.Engine,
        limits: Limits,
        run_id: str,
        keep: Callable[[Sequence[ResourceSample]], None],
        *,
        gpu_configured: bool = False,
        interval: float = 2.0,
        patience: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.samples = 0
        self.failures = 0
        self.last_failure: str | None = None
        self._in_a_row = 0
        self._engine = engine
        self._run_id = run_id
        self._keep = keep
        self._watch = LimitWatch(
            limits, gpu_configured=gpu_configured, patience=patience, clock=clock
        )
        self._interval = interval
        self._connection: sa.Connection | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="machine monitor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def breach(self) -> str | None:
        """The limit that stayed broken, with its figures; None while all is well."""
        return self._watch.breach

    def stop(self) -> None:
        """Ends the thread and closes its connection. Safe to call again."""
        self._stopping.set()
        self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        while True:
            self._read()
            if self._stopping.wait(self._interval):
                break
        self._disconnect()

    def _read(self) -> None:
        try:
            reading = take_sample(self._connected())
            self._watch.observe(reading)
            self._keep([reading.row(self._run_id)])
            self.samples += 1
            if self._in_a_row:
                _log.warning("machine samples succeed again after %s failures", self._in_a_row)
            self._in_a_row = 0
        except Exception as error:
            self.failures += 1
            self._in_a_row += 1
            self.last_failure = (str(error).splitlines() or [type(error).__name__])[0]
            if self._in_a_row == 1:  # an outage of minutes is one line, not one every two seconds
                _log.warning("machine samples fail: %s", self.last_failure)
            self._disconnect()

    def _connected(self) -> sa.Connection:
        if self._connection is None:
            connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            # Out of the pool: a pool that is exhausted by the run must not stop the watch on it.
            connection.detach()
            connection.execute(sa.text(f"SET statement_timeout = {DATABASE_MILLISECONDS}"))
            self._connection = connection
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except sa.exc.SQLAlchemyError as error:  # the server may be gone
                _log.debug("closing the monitor's connection: %s", error)
