"""One snapshot after the other, at a steady pace."""

import math
import time
from collections.abc import Callable, Iterator

from forge_assets.launches.monitor.table import Snapshot

EVERY_SECONDS = 30.0


def refreshes(
    read: Callable[[], Snapshot],
    wait: Callable[[float], bool],
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Snapshot]:
    """Until ``wait``, which takes seconds, says that it was told to end.

    A refresh that takes longer than the pace is not overtaken: the ones that would have begun
    meanwhile are left out.
    """
    due = clock()
    while True:
        yield read()
        late = clock() - due
        due += EVERY_SECONDS * max(1, math.ceil(late / EVERY_SECONDS))
        if wait(max(0.0, due - clock())):
            return
