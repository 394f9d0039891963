"""Where progress goes besides Dagster's log: the terminal of `forge run`, if there is one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Say = Callable[[str], None]

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
    terminal = _terminal.get()
    if terminal is None:
        return log

    def say(line: str) -> None:
        log(line)
        terminal(line)

    return say
