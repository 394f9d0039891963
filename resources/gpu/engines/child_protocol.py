"""What a process with an engine in it and its parent say to each other.

The parent sends ``(number, verb, argument)``; the first is the opening. The child answers with
``(number, kind, value)``: 'item' for one of several answers, 'end' for the last, 'refused' with an
error that the parent raises. A call number is never used twice, so a late answer is known as one.
Number 0 is the child's sign of life.
"""

import importlib
from dataclasses import dataclass
from typing import Any

from resources.gpu.dtype_probe import DtypeChoice
from resources.gpu.engines.base import Engine

BEAT_SECONDS = 1.0
"""Between two signs of life."""


@dataclass(frozen=True)
class Opening:
    """Which engine the child opens. Everything in it can be pickled."""

    model_key: str
    factory: str
    """'module:name' of what returns the engine."""
    arguments: tuple[Any, ...] = ()

    def open(self) -> Engine:
        module, _, name = self.factory.partition(":")
        engine: Engine = getattr(importlib.import_module(module), name)(*self.arguments)
        return engine


@dataclass(frozen=True)
class Facts:
    """What the parent's side of an engine tells without asking."""

    max_batch: int
    dtype: DtypeChoice
    memory_bytes: int
    workspace_seen: int | None
