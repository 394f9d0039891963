"""Fetching the next model while the last batches of the present one are generated."""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

_log = logging.getLogger(__name__)
_LOOK_EVERY_SECONDS = 0.5


@contextmanager
def fetching_ahead(
    model: str, ready_models: Callable[[], Mapping[str, int]], fetch: Callable[[str], None]
) -> Iterator[None]:
    """In a thread of its own: waits until work for another model is ready, then fetches that model.

    Only what certainly will be used is fetched, and a model that cannot be fetched ahead is loaded
    when its turn comes: that says what is wrong with it.
    """
    over = threading.Event()

    def watch() -> None:
        try:
            while not over.is_set():
                others = {name: n for name, n in ready_models().items() if name != model}
                if others:
                    fetch(max(others, key=lambda name: (others[name], name)))
                    return
                over.wait(_LOOK_EVERY_SECONDS)
        except Exception as error:
            _log.info("did not fetch the next model ahead: %s", error)

    thread = threading.Thread(target=watch, name="fetch-ahead", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
