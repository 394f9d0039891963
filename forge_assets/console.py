"""Where progress goes besides Dagster's log: the terminal of `forge run`, if there is one."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Say = Callable[[str], None]
_log = logging.getLogger(__name__)

_terminal: ContextVar[Say | None] = ContextVar("terminal", default=None)


@contextmanager
def on_terminal(say: Say) -> Iterator[None]:
    """Progress of runs in this block is also given to ``say``."""
    token = _terminal.set(say)
    try:
        yield
    finally:
        _terminal.reset(token)


def both(log: Say) -> Say:
    """Says to Dagster's log and to the terminal. Dagster's log is in the database: while that is
    away a line is lost there, not the run."""
    terminal = _terminal.get()

    from sqlalchemy.exc import DBAPIError

    def say(line: str) -> None:
        if terminal is not None:
            terminal(line)
        try:
            log(line)
        except DBAPIError as error:
            _log.warning("%s (not in Dagster's log: %s)", line, type(error.orig).__name__)

    return say
