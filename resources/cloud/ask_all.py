"""Different questions at once, under one deadline; each has its answer or the reason why not."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from functools import partial
from threading import Thread
from typing import Any, TypeVar

from resources.cloud.errors import CloudError, TimedOut
from resources.errors import ConfigurationError

T = TypeVar("T")

# A call ends by its own deadline this much before all of them, so that its own words are heard.
_GRACE_SECONDS = 0.1


def in_background(work: Callable[[], T], name: str) -> Future[T]:
    """Not an executor: at the end of the program it would wait for a thread that hangs."""
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(work())
        except BaseException as error:
            answer.set_exception(error)

    Thread(target=run, name=name, daemon=True).start()
    return answer


def ask_all(
    questions: Mapping[str, Callable[[float], Any]], seconds: float, late: str = ""
) -> dict[str, Any]:
    """``questions``: by name; each gets the seconds left.

    Each name with its answer, or with the CloudError or ConfigurationError that came instead;
    TimedOut, with the sentence ``late``, is the answer of a late one.

    It returns after ``seconds`` at the latest, however long a call hangs. Any other exception of a
    question is raised.
    """
    end = time.monotonic() + seconds

    def ask(question: Callable[[float], Any]) -> Any:
        try:
            return question(end - time.monotonic() - _GRACE_SECONDS)
        except (CloudError, ConfigurationError) as error:
            return error

    asked = {
        name: in_background(partial(ask, question), f"ask {name}")
        for name, question in questions.items()
    }
    done, _ = wait(asked.values(), max(0.0, end - time.monotonic()), FIRST_EXCEPTION)
    for future in done:
        # Raises what was not foreseen.
        future.result()
    late = late or f"no answer within {seconds:g} s"
    return {name: f.result() if f in done else TimedOut(late) for name, f in asked.items()}
