"""Keys and values of many rows in one piece of memory, a span of neighbouring slots for each row.

A row's span holds its prompt and its longest output, so the attention kernels need no page table:
where the span starts and how much of it is filled says everything, and reads are contiguous.
"""

from bisect import insort
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class SpanAllocator:
    """First fit over the free spans, which are kept in order and joined when they touch. Pure."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._free: list[tuple[int, int]] = [(0, size)] if size else []

    @property
    def free(self) -> int:
        return sum(size for _, size in self._free)

    def take(self, size: int) -> int | None:
        """The start of a span of ``size`` slots, or None where no free span is that long."""
        for place, (start, free) in enumerate(self._free):
            if free >= size:
                rest = (start + size, free - size)
                self._free[place : place + 1] = [rest] if rest[1] else []
                return start
        return None

    def give(self, start: int, size: int) -> None:
        """The span is free again."""
        insort(self._free, (start, size))
        joined: list[tuple[int, int]] = []
        for first, length in self._free:
            if joined and sum(joined[-1]) == first:
                joined[-1] = (joined[-1][0], joined[-1][1] + length)
            else:
                joined.append((first, length))
        self._free = joined


class KvArena:
    """``layers[i]``: keys and values [slots + 1, heads, size] of a layer. The last slot is nobody's."""

    def __init__(self, model: Any, slots: int, device: "torch.device") -> None:
        import torch

        heads, size = kv_shape(model)
        shape = (slots + 1, heads, size)
        count = model.config.get_text_config().num_hidden_layers
        self.layers = [
            (
                torch.zeros(shape, dtype=model.dtype, device=device),
                torch.zeros(shape, dtype=model.dtype, device=device),
            )
            for _ in range(count)
        ]
        self.nobody = slots
        self.spans = SpanAllocator(slots)

    def copy(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Every layer's slots ``sources`` to ``targets``."""
        import torch

        device = self.layers[0][0].device
        source = torch.tensor(sources, device=device)
        target = torch.tensor(targets, device=device)
        for keys, values in self.layers:
            keys[target] = keys[source]
            values[target] = values[source]


def kv_shape(model: Any) -> tuple[int, int]:
    """Heads of the keys and values, and the size of one."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return heads, size


def slot_bytes(model: Any) -> int:
    """Keys and values of one token in all layers."""
    heads, size = kv_shape(model)
    layers = model.config.get_text_config().num_hidden_layers
    return int(layers * 2 * heads * size * model.dtype.itemsize)
