"""What a child process of the tests opens: the real engine, with a way to come to harm."""

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from resources.gpu.engines.base import Completion, GenerationRequest
from resources.gpu.engines.transformers_engine import TransformersEngine

DEADLY = "zebra"


class Mortal(TransformersEngine):
    """Its process dies of every prompt with the word in it, as of a fault in a kernel."""

    def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[Completion]:
        if any(DEADLY in request.prompt for request in requests):
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().generate(requests)


class Useless(TransformersEngine):
    """Its process dies of all work."""

    def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[Completion]:
        os._exit(3)


def broken(*_: Any) -> TransformersEngine:
    raise ValueError("the moon is not full")


class Stuck(TransformersEngine):
    """It waits for ever at every prompt with the word in it, as for a kernel that does not end."""

    steps = 0
    longest_step = 2.0

    def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[Completion]:
        if any(DEADLY in request.prompt for request in requests):
            threading.Event().wait()
        for completion in super().generate(requests):
            self.steps += 1
            yield completion
