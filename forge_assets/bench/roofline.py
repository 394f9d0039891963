"""The least time that the work can take on a device. Pure arithmetic.

A pass is bound by what it must read or by what it must compute, whichever takes longer at the rates
that the device was seen to reach. Counted: the multiplications by the weights, the weights read once
a pass, every row's own keys and values read at every step. Not counted: the arithmetic of attention,
what is written, and all that is not a matrix. So no engine of this kind can be faster.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from resources.gpu.engines.kv_arena import slot_bytes


@dataclass(frozen=True)
class Peaks:
    """What a device was seen to reach in one dtype: bytes read a second, FLOPs a second."""

    bandwidth: float
    flops: float

    def seconds(self, read: float, flops: float) -> float:
        """The least for so many bytes and FLOPs."""
        return max(read / self.bandwidth, flops / self.flops)


@dataclass(frozen=True)
class ModelSize:
    """Parameters that every token is multiplied by, and those only a chosen token needs."""

    layers: int
    head: int
    parameter_bytes: int
    token_bytes: int
    """Keys and values of one token in all layers."""

    @classmethod
    def of(cls, model: Any) -> "ModelSize":
        """Of a transformers model; its embedding is looked up, not multiplied."""
        head = model.get_output_embeddings().weight
        embedding = model.get_input_embeddings().weight
        ends = {id(weight): weight.numel() for weight in (head, embedding)}
        parameters = sum(parameter.numel() for parameter in model.parameters())
        return cls(
            layers=parameters - sum(ends.values()),
            head=head.numel(),
            parameter_bytes=model.dtype.itemsize,
            token_bytes=slot_bytes(model),
        )

    @property
    def weight_bytes(self) -> int:
        return (self.layers + self.head) * self.parameter_bytes


@dataclass(frozen=True)
class Floor:
    """The least seconds for the prompts, and for the steps after them."""

    prompts: float
    steps: float

    @property
    def seconds(self) -> float:
        return self.prompts + self.steps


def floor(
    size: ModelSize, peaks: Peaks, prompts: Sequence[Sequence[int]], outputs: Sequence[int]
) -> Floor:
    """For all rows at once: ``prompts`` as tokens, ``outputs`` as counts of new tokens."""
    tokens = distinct_tokens(prompts)
    flops = 2.0 * (size.layers * tokens + size.head * len(prompts))
    steps = 0.0
    rows = sorted(zip(outputs, map(len, prompts), strict=True), reverse=True)
    for done in range(1, max(outputs, default=0)):
        while rows and rows[-1][0] <= done:
            rows.pop()
        cached = sum(prompt for _, prompt in rows) + done * len(rows)
        steps += peaks.seconds(
            size.weight_bytes + size.token_bytes * cached,
            2.0 * (size.layers + size.head) * len(rows),
        )
    return Floor(peaks.seconds(size.weight_bytes, flops), steps)


def distinct_tokens(prompts: Sequence[Sequence[int]]) -> int:
    """Tokens to compute when every beginning that prompts share is computed once."""
    count = 0
    before: list[int] = []
    for prompt in sorted(map(list, prompts)):
        pairs = zip(before, prompt, strict=False)
        count += len(prompt) - sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        before = prompt
    return count
