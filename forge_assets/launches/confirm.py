"""The fast path: the job's API every 5 s, the hops before it more often; no log is read."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

from resources.cloud.cloud_run import Execution
from resources.cloud.errors import CloudError
from resources.cloud.vertex import Job

TURN_SECONDS = 1.25
TURNS: Mapping[str, int] = {"runner": 1, "queue item": 2, "job": 4}
"""How many turns from one look at a hop to the next."""
PATIENCE_SECONDS = 120.0
CALL_SECONDS = 4.5
"""Of one look: below the 5 s from one look for the job to the next."""


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
    lookout = _Lookout(looks)
    begin = clock()
    turn = 0
    while True:
        lookout.ask(turn)
        for hop, answer in lookout.answers(TURN_SECONDS):
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
        if turn * TURN_SECONDS > patience:
            return seen
        wait(max(0.0, begin + turn * TURN_SECONDS - clock()))


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


class _Lookout:
    """Asks each hop in a thread of its own; one that has not answered yet is not asked again."""

    def __init__(self, looks: Looks) -> None:
        found = {"job": looks.jobs, "runner": looks.execution, "queue item": looks.item}
        self._looks = {hop: look for hop, look in found.items() if look is not None}
        self._asked: set[str] = set()
        self._answers: SimpleQueue[tuple[str, Any]] = SimpleQueue()

    def ask(self, turn: int) -> None:
        for hop, look in self._looks.items():
            if turn % TURNS[hop] == 0 and hop not in self._asked:
                self._asked.add(hop)
                # Not an executor: at the end of the program it would wait for a look that hangs.
                threading.Thread(
                    target=self._look, args=(hop, look), name=f"look {hop}", daemon=True
                ).start()

    def answers(self, seconds: float) -> Iterator[tuple[str, Any]]:
        """As they come, a CloudError for a look that failed; none comes after ``seconds`` of silence."""
        while self._asked:
            try:
                hop, answer = self._answers.get(timeout=seconds)
            except Empty:
                return
            self._asked.discard(hop)
            if isinstance(answer, BaseException) and not isinstance(answer, CloudError):
                raise answer
            yield hop, answer

    def _look(self, hop: str, look: Callable[[float], Any]) -> None:
        try:
            self._answers.put((hop, look(CALL_SECONDS)))
        except BaseException as error:
            self._answers.put((hop, error))
