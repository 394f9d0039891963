"""Different questions at once, under one deadline; each has its answer or the reason why not."""

import time
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from resources.cloud.errors import CloudError, TimedOut
from resources.errors import ConfigurationError

# A call ends by its own deadline this much before all of them, so that its own words are heard.
_GRACE_SECONDS = 0.1


def ask_all(questions: Mapping[str, Callable[[float], Any]], seconds: float) -> dict[str, Any]:
    """``questions``: by name; each gets the seconds left.

    Each name with its answer, or with the CloudError or ConfigurationError that came instead;
    TimedOut is the answer of a late one.

    It returns after ``seconds`` at the latest, however long a call hangs. Any other exception of a
    question is raised.
    """
    end = time.monotonic() + seconds
    answers: SimpleQueue[tuple[str, Any, Exception | None]] = SimpleQueue()

    def ask(name: str, question: Callable[[float], Any]) -> None:
        try:
            answers.put((name, question(end - time.monotonic() - _GRACE_SECONDS), None))
        except (CloudError, ConfigurationError) as error:
            answers.put((name, error, None))
        except Exception as error:
            answers.put((name, None, error))

    # Not an executor: at the end of the program it would wait for a thread that hangs.
    for name, question in questions.items():
        Thread(target=ask, args=(name, question), name=f"ask {name}", daemon=True).start()
    late = f"no answer within {seconds:g} s"
    found: dict[str, Any] = {name: TimedOut(late) for name in questions}
    for _ in questions:
        try:
            name, answer, error = answers.get(timeout=max(0.0, end - time.monotonic()))
        except Empty:
            break
        if error is not None:
            raise error
        found[name] = answer
    return found
