"""Keys and values of one batch in memory that is allocated once.

transformers' own cache joins the old and the new with ``torch.cat`` at every step, which copies
everything; here a step writes one column and reads a view. The model sees the part of a cache's
interface that its forward pass and its mask functions use.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class KvBuffer:
    """Cache columns [0, capacity) of ``rows`` rows in every layer.

    A forward pass works on the rows ``window[0]:window[1]`` and appends at column ``length``.
    """

    is_compileable = False

    def __init__(self, layers: int, rows: int, capacity: int) -> None:
        self.layers = layers
        self.rows = rows
        self.capacity = capacity
        self.length = 0
        self.window = (0, rows)
        self._keys: list[torch.Tensor] = []
        self._values: list[torch.Tensor] = []

    def begin(self, first: int, end: int, length: int) -> None:
        """The next forward pass sees rows [first, end) with ``length`` columns already filled."""
        self.window = (first, end)
        self.length = length

    def update(
        self, keys: "torch.Tensor", values: "torch.Tensor", layer: int, *_: object, **__: object
    ) -> "tuple[torch.Tensor, torch.Tensor]":
        """Append [rows, heads, columns, size] and return everything up to there."""
        if layer == len(self._keys):
            shape = (self.rows, keys.shape[1], self.capacity)
            self._keys.append(keys.new_zeros((*shape, keys.shape[3])))
            self._values.append(values.new_zeros((*shape, values.shape[3])))
        first, end = self.window
        upto = self.length + keys.shape[2]
        k = self._keys[layer][first:end, :, :upto]
        v = self._values[layer][first:end, :, :upto]
        k[:, :, self.length :] = keys
        v[:, :, self.length :] = values
        if layer == self.layers - 1:
            self.length = upto
        return k, v

    def get_seq_length(self, layer: int = 0) -> int:
        return self.length

    def get_query_offset(self, layer: int = 0) -> int:
        return self.length

    def get_mask_sizes(self, query_length: int, layer: int = 0) -> tuple[int, int]:
        return self.length + query_length, 0

    def spread(self, source: "KvBuffer", row_of: Sequence[int], width: int) -> None:
        """Fill columns [0, width) of row i with those of ``source``'s row ``row_of[i]``."""
        for keys, values in zip(source._keys, source._values, strict=True):
            shape = (self.rows, keys.shape[1], self.capacity)
            self._keys.append(keys.new_zeros((*shape, keys.shape[3])))
            self._values.append(values.new_zeros((*shape, values.shape[3])))
            self._keys[-1][:, :, :width] = keys[row_of, :, :width]
            self._values[-1][:, :, :width] = values[row_of, :, :width]

    def keep(self, rows: Sequence[int]) -> None:
        """Move ``rows`` (ascending) to the front and forget the others."""
        for store in (self._keys, self._values):
            for layer in store:
                for place, row in enumerate(rows):
                    if place != row:
                        layer[place, :, : self.length] = layer[row, :, : self.length]
        self.rows = len(rows)
        self.window = (0, self.rows)
