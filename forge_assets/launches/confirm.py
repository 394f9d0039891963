"""The fast path: the job's API every 5 s, the hops before it twice as often; no log is read."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

from resources.cloud.cloud_run import Execution
from resources.cloud.errors import CloudError
from resources.cloud.vertex import Job

INTERVAL_SECONDS = 2.5
JOB_EVERY = 2
"""Looks at the hops for one at the job."""
PATIENCE_SECONDS = 120.0
CALL_SECONDS = 2.4
"""Below the interval: a look that hangs is over before the next one."""


@dataclass(frozen=True, slots=True)
class Item:
    """A queue's item: its state, and the W&B run it became, None before."""

    state: str
    run: str | None


@dataclass(frozen=True, slots=True)
class Looks:
    """How each hop is looked at, with seconds for it; None for one that the path does not have."""

    jobs: Callable[[float], Sequence[Job]]
    """Of this launch and of no other, newest first."""
    execution: Callable[[float], Execution] | None = None
    item: Callable[[float], Item] | None = None


@dataclass(slots=True)
class Seen:
    """What was last known of each hop; ``said``: why a hop's last look gave nothing."""

    jobs: Sequence[Job] = ()
    execution: Execution | None = None
    item: Item | None = None
    said: dict[str, str] = field(default_factory=dict)
    ended: str = ""
    """"job", "runner" or "item": what ended the watching; "" for the time-out."""


def watch(
    looks: Looks,
    clock: Callable[[], float],
    wait: Callable[[float], None],
    patience: float = PATIENCE_SECONDS,
) -> Seen:
    """Looks until a job is seen, the runner or the item has ended without one, or time is out.

    ``clock``: seconds. An ended runner or item counts only after one more look for the job that came
    back empty: its last deed may have been the job.
    """
    seen = Seen()
    begin = clock()
    turn = 0
    while True:
        for hop, answer in _at_once(looks, with_job=turn % JOB_EVERY == 0):
            _note(seen, hop, answer)
            if seen.jobs:
                seen.ended = "job"
                return seen
        ended = _ended(seen)
        if ended and _has_no_job(looks, seen):
            seen.ended = ended
            return seen
        if seen.jobs:
            seen.ended = "job"
            return seen
        turn += 1
        if turn * INTERVAL_SECONDS > patience:
            return seen
        wait(max(0.0, begin + turn * INTERVAL_SECONDS - clock()))


def _ended(seen: Seen) -> str:
    if seen.execution is not None and seen.execution.is_over:
        return "runner"
    return "item" if seen.item is not None and seen.item.state == "FAILED" else ""


def _has_no_job(looks: Looks, seen: Seen) -> bool:
    """Whether a look shows that there is none; False also when it fails."""
    try:
        _note(seen, "job", looks.jobs(CALL_SECONDS))
    except CloudError as error:
        _note(seen, "job", error)
        return False
    return not seen.jobs


def _note(seen: Seen, hop: str, answer: Any) -> None:
    if isinstance(answer, CloudError):
        seen.said[hop] = str(answer)
        return
    seen.said.pop(hop, None)
    match hop:
        case "job":
            seen.jobs = answer
        case "runner":
            seen.execution = answer
        case _:
            seen.item = answer


def _at_once(looks: Looks, with_job: bool) -> Iterator[tuple[str, Any]]:
    """The hops' answers as they come, a CloudError for one that failed; each in its own thread."""
    asked: dict[str, Callable[[float], Any]] = {"job": looks.jobs} if with_job else {}
    if looks.execution is not None:
        asked["runner"] = looks.execution
    if looks.item is not None:
        asked["queue item"] = looks.item
    answers: SimpleQueue[tuple[str, Any]] = SimpleQueue()

    def ask(hop: str, look: Callable[[float], Any]) -> None:
        try:
            answers.put((hop, look(CALL_SECONDS)))
        except BaseException as error:
            answers.put((hop, error))

    # Not an executor: at the end of the program it would wait for a look that hangs.
    for hop, look in asked.items():
        threading.Thread(target=ask, args=(hop, look), name=f"look {hop}", daemon=True).start()
    for _ in asked:
        try:
            hop, answer = answers.get(timeout=CALL_SECONDS + 0.05)
        except Empty:
            return
        if isinstance(answer, BaseException) and not isinstance(answer, CloudError):
            raise answer
        yield hop, answer
