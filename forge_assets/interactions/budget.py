"""How many interactions a run may work on, over all its workers."""

import threading
from collections.abc import Collection


class Budget:
    """Counts interactions, not attempts. ``limit`` None is no limit."""

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._changed = threading.Condition()
        self._seen: set[int] = set()
        self._reserved = 0
        self._closed = False

    @property
    def spent(self) -> bool:
        with self._changed:
            return self._limit is not None and len(self._seen) >= self._limit

    def close(self, patience: float) -> None:
        """Nothing more may be claimed. Waits some seconds for the claims that are under way."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._reserved, patience)

    def reserve(self, want: int) -> int:
        """How many may be claimed now, up to ``want``; ``claimed`` must follow."""
        with self._changed:
            if self._closed:
                return 0
            if self._limit is not None:
                want = max(0, min(want, self._limit - len(self._seen) - self._reserved))
            self._reserved += want
            return want

    def claimed(self, reserved: int, ids: Collection[int]) -> None:
        """What a reservation came to: it may be less, and a retry was counted before."""
        with self._changed:
            self._reserved -= reserved
            self._changed.notify_all()
            if self._limit is not None:
                self._seen.update(ids)
