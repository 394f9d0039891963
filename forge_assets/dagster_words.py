"""How what our assets say reaches Dagster: errors as one sentence, progress as log lines."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg

from forge_assets import console
from resources.database_errors import database_errors, database_sentence
from resources.errors import ForgeError


@contextmanager
def one_sentence() -> Iterator[None]:
    """Our errors reach Dagster as a failure whose message is the sentence, once, and no retry."""
    say_errors_once()
    try:
        yield
    except ForgeError as error:
        raise _failure(error) from None
    except database_errors() as error:
        raise _failure(database_sentence(error)) from error


def _failure(error: ForgeError) -> dg.Failure:
    return dg.Failure(str(error), metadata={"exit_code": error.exit_code}, allow_retries=False)


def say(context: dg.AssetExecutionContext) -> console.Say:
    """Writes to Dagster's log and, where `forge` set one up, to the terminal."""
    return console.both(context.log.info)


def say_errors_once() -> None:
    """Keeps the console from telling the error of the first failed step twice, with its trace.

    Dagster logs it with STEP_FAILURE and with RUN_FAILURE. The second stays: while a step runs its
    output is mirrored by a process of its own, which may end before it has passed on the last lines.
    The event log keeps both.
    """
    make_record = logging.getLogRecordFactory()
    if make_record is not _record_without_repetition:
        _make_record.append(make_record)
        logging.setLogRecordFactory(_record_without_repetition)


_make_record: list[Callable[..., logging.LogRecord]] = []
_shortened: list[str] = []
"""Text of the STEP_FAILURE whose error RUN_FAILURE will tell; other failed steps keep theirs."""


def _record_without_repetition(*args: Any, **options: Any) -> logging.LogRecord:
    record = _make_record[-1](*args, **options)
    if record.name == "dagster" and " - STEP_FAILURE - " in str(record.msg):
        first = _shortened[0] if _shortened else str(record.msg)
        if record.msg == first:
            _shortened[:] = [first]
            record.msg = first.split("\n\n", 1)[0]
    return record
