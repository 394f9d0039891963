"""Pages of one listing read under one deadline."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from resources.cloud.errors import CloudError, TimedOut

Row = TypeVar("Row", covariant=True)
T = TypeVar("T")


@dataclass(frozen=True)
class Listing(Generic[Row]):
    """``missing``: why rows are missing behind those that were read; None when none are."""

    rows: tuple[Row, ...]
    missing: CloudError | None = None

    def whole(self) -> tuple[Row, ...]:
        """The rows. Raises ``missing``: half a listing does not show that something is absent."""
        if self.missing is not None:
            raise self.missing
        return self.rows


def read_pages(
    fetch: Callable[[str, float], tuple[Sequence[T], str]],
    seconds: float,
    at_most: int | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Listing[T]:
    """``fetch``: page token, seconds left -> rows, next token ("" ends). Stops at ``at_most`` rows.

    The first page's CloudError is raised; a later one's is ``missing`` and the rows stay.
    """
    end = clock() + seconds
    rows: list[T] = []
    token = ""
    while True:
        try:
            left = end - clock()
            if left <= 0:
                raise TimedOut(f"no more time after {len(rows)} rows")
            page, token = fetch(token, left)
        except CloudError as error:
            if not token:
                raise
            return Listing(tuple(rows), error)
        rows += page
        if at_most is not None and len(rows) >= at_most:
            return Listing(tuple(rows[:at_most]))
        if not token:
            return Listing(tuple(rows))
