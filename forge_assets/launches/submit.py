"""A request that must have its effect once, over an API that cannot promise it: look before retry."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from resources.cloud.errors import CloudError, Throttled, TimedOut, Unavailable

T = TypeVar("T")

ATTEMPTS = 3
LOOKS = 2
PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 30.0
LATE_SECONDS = 20.0
"""For so long a request that got no answer may still have its effect."""


class OutcomeUnknown(Exception):
    """The request may have had its effect, and nobody can tell."""


@dataclass(frozen=True, slots=True)
class Pace:
    """``wait``: seconds; ``tell``: what happens, one sentence."""

    wait: Callable[[float], None]
    tell: Callable[[str], None]


def once(send: Callable[[], T], look: Callable[[], T | None], what: str, pace: Pace) -> T:
    """``send()``, sent again only when ``look()`` has shown twice that it had no effect.

    ``look`` gives what an earlier request made, None for nothing. CloudError when the API refuses;
    OutcomeUnknown when a look fails, or after the last attempt.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return send()
        except (Throttled, TimedOut, Unavailable) as error:
            pace.tell(f"{what}: {error}; looking whether it was done nevertheless")
            found = _look_twice(look, error, what, pace)
            if found is not None:
                pace.tell(f"{what}: it was done; nothing is sent again")
                return found
            if attempt == ATTEMPTS:
                raise OutcomeUnknown(
                    f"{what} got no answer that tells, {ATTEMPTS} times, and nothing is seen of it:"
                    f" {error}"
                ) from error
            pace.tell(f"{what}: it was not done; attempt {attempt + 1} of {ATTEMPTS}")
    raise AssertionError("unreachable")


def _look_twice(look: Callable[[], T | None], error: CloudError, what: str, pace: Pace) -> T | None:
    """With a pause before the second look: what was accepted may take a moment to be listed."""
    for number in range(LOOKS):
        if number:
            pace.wait(_pause(error))
        try:
            found = look()
        except CloudError as failed:
            raise OutcomeUnknown(
                f"{what} was answered with '{error}', and whether it was done cannot be looked up:"
                f" {failed}"
            ) from failed
        if found is not None:
            return found
    return None


def _pause(error: CloudError) -> float:
    if isinstance(error, TimedOut):
        return LATE_SECONDS
    return min(error.retry_after or PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
