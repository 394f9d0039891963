"""Calling the database again after it was away."""

from collections.abc import Callable
from threading import Event
from typing import TypeVar

import sqlalchemy as sa
import tenacity

from resources.database_errors import KEPT
from resources.errors import InfrastructureError

T = TypeVar("T")

_PASSING = {
    "40001",  # serialization failure
    "40P01",  # deadlock
    "53300",  # too many connections
    "57P01",  # the server is being shut down
    "57P02",  # it crashed
    "57P03",  # it is starting up
}


def with_retries(call: Callable[[], T], *, seconds: float = 60.0, stop: Event | None = None) -> T:
    """``call()``, and again while the database is away, for at most ``seconds``.

    For calls that are safe to repeat, as the store's are. Waits grow from 0.1 to 5 s, jittered; a
    set ``stop`` ends the waiting. InfrastructureError when it stays away; others pass at once.
    """
    wait = tenacity.wait_random_exponential(multiplier=0.1, max=5)
    stopping = tenacity.stop_after_delay(seconds)
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_passing),
        wait=wait,
        stop=stopping if stop is None else stopping | tenacity.stop_when_event_set(stop),
        sleep=tenacity.sleep if stop is None else tenacity.sleep_using_event(stop),
        reraise=True,
    )
    try:
        return retrying(call)
    except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
        if not is_passing(error):
            raise
        reason = str(getattr(error, "orig", error)).strip().splitlines()[0]
        raise InfrastructureError(
            f"the database did not answer for {seconds:g} s ({reason}); {KEPT}"
        ) from None


def is_passing(error: BaseException) -> bool:
    """Whether the same call may succeed later: a lost connection, a restart, a lost race."""
    if isinstance(error, sa.exc.TimeoutError):  # every connection of the pool is in use
        return True
    if not isinstance(error, sa.exc.DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    code = getattr(error.orig, "pgcode", None)
    if code is None:  # no answer from a server: connecting failed or the connection broke
        return isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError)
    return code in _PASSING
