"""An engine in a process of its own, which may die or hang without taking the run along."""

import logging
import time
from collections.abc import Generator, Iterator, Sequence

from resources.errors import ForgeError, InfrastructureError
from resources.gpu.dtype_probe import DtypeChoice
from resources.gpu.engines.base import Completion, EngineError, GenerationRequest
from resources.gpu.engines.child_process import ChildDied, ChildProcess
from resources.gpu.engines.child_protocol import Facts, Opening
from resources.gpu.engines.failures import failed
from resources.interaction import ErrorClass

_log = logging.getLogger(__name__)
_SILENCE_SECONDS = 60.0
_RESTARTS = 3
"""In a row without an answer, and requests in a row that each were found to end the process."""
_TRUSTED_DEATHS = 2
"""So often a group of requests is given to a process that dies of it, before the group is halved."""
_HARMLESS = GenerationRequest(request_id=-1, prompt="Hi", max_new_tokens=1)


class ChildEngine:
    """An ``Engine``. What a process that died left unanswered is given to the next one.

    Requests that two processes in a row died of are tried in halves until the one that causes it is
    alone; it ends as ``poison`` when a process dies of it alone and the next one works.
    """

    def __init__(self, opening: Opening, silence: float = _SILENCE_SECONDS) -> None:
        """Open the engine. ``silence``: seconds without a sign of life after which it is ended.

        Raises what the opening raised, or InfrastructureError when the process cannot start.
        """
        self._opening = opening
        self._silence = silence
        self._closed = False
        self._deaths = 0
        self._condemned = 0
        self._child = ChildProcess(opening, silence)
        try:
            self._learn(self._child.opened())
        except ChildDied as death:
            raise self._broken(f"the process of its engine cannot start: {death}") from None
        except BaseException:
            self._child.close()
            raise

    @property
    def pid(self) -> int:
        """Of the process that works now."""
        return self._child.pid

    @property
    def dtype(self) -> DtypeChoice:
        return self._facts.dtype

    @property
    def memory_bytes(self) -> int:
        return self._facts.memory_bytes

    @property
    def workspace_seen(self) -> int | None:
        return self._facts.workspace_seen

    def check(self, request: GenerationRequest) -> EngineError | None:
        """Why the request cannot run, or None, also while there is no process to ask."""
        try:
            error: EngineError | None = self._child.ask("check", request)
        except ChildDied:
            return None
        return error

    def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[Completion]:
        """Yield one completion per request, each as it ends; see ``Engine``.

        Raises InfrastructureError when process after process dies.
        """
        self._revive()
        groups = [(list(requests), 0)]
        while groups:
            group, deaths = groups.pop()
            left = yield from self._attempt(group)
            if not left:
                continue
            how = self._end()
            self._revive()
            if len(group) == 1 and deaths >= _TRUSTED_DEATHS:
                yield self._condemn(group[0], how)
                continue
            halves = _halves(left) if deaths + 1 >= _TRUSTED_DEATHS else [left]
            groups.extend((half, deaths + 1) for half in halves[::-1])

    def _attempt(
        self, group: Sequence[GenerationRequest]
    ) -> Generator[Completion, None, list[GenerationRequest]]:
        """Run a group; return what the process left unanswered when it died."""
        left = {request.request_id: request for request in group}
        answers = self._child.stream("generate", list(group))
        try:
            for answer in answers:
                if isinstance(answer, Facts):
                    self._learn(answer)
                    continue
                del left[answer.request_id]
                if answer.error is None:
                    self._condemned = 0
                yield answer
        except ChildDied as death:
            _log.warning(
                "%s: the process of the engine died with %d requests unanswered: %s",
                *(self._opening.model_key, len(left), death),
            )
        finally:
            answers.close()
        return list(left.values())

    def _condemn(self, request: GenerationRequest, how: str) -> Completion:
        """The answer for a request that ended one process after the other, the last time alone."""
        self._condemned += 1
        if self._condemned > _RESTARTS:
            raise self._broken(
                f"{self._condemned} requests in a row each ended the process of the engine ({how})"
            )
        message = f"the engine's process dies of this request: {how}"
        return failed(request, EngineError(ErrorClass.POISON, message))

    def _revive(self) -> None:
        """See that there is a process, and that it can answer if one has died before it."""
        if self._closed:
            raise RuntimeError("the engine is closed")
        how = self._end() if not self._child.alive else None
        while how is not None:
            self._deaths += 1
            if self._deaths > _RESTARTS:
                raise self._broken(f"the process of its engine died again and again: {how}")
            time.sleep(self._deaths - 1)  # what held the memory may need a moment to be gone
            self._child = ChildProcess(self._opening, self._silence)
            how = self._fault()
        self._deaths = 0

    def _fault(self) -> str | None:
        """Why the new process is of no use: it must open the engine and answer something harmless."""
        try:
            self._learn(self._child.opened())
            list(self._child.stream("generate", [_HARMLESS]))
        except (ChildDied, ForgeError) as error:
            self._child.close()
            return str(error)
        return None

    def _end(self) -> str:
        """Make sure that the process has ended, and say how it did."""
        self._child.close()
        return self._child.end or "it ended"

    def trim(self) -> None:
        self._tell("trim")

    def park(self) -> bool:
        return bool(self._tell("park"))

    def resume(self) -> None:
        """A process that cannot take its model back to the device is replaced by a new one."""
        self._tell("resume")
        self._revive()

    def _tell(self, verb: str) -> object:
        """What the process says; None when it has died: then there is nothing in any memory."""
        try:
            return self._child.ask(verb)
        except ChildDied as death:
            _log.warning("%s: no %s: %s", self._opening.model_key, verb, death)
            return None

    def close(self) -> None:
        """End the process. The engine cannot be used afterwards."""
        self._closed = True
        self._child.close()

    def _learn(self, facts: Facts) -> None:
        self._facts = facts
        self.max_batch = facts.max_batch

    def _broken(self, what: str) -> InfrastructureError:
        return InfrastructureError(
            f"models.{self._opening.model_key}: {what}; what was committed is kept, so repair the"
            " cause and run the same command again."
        )


def _halves(group: list[GenerationRequest]) -> list[list[GenerationRequest]]:
    """The group in two, as one when it has one member."""
    middle = (len(group) + 1) // 2
    return [half for half in (group[:middle], group[middle:]) if half]
