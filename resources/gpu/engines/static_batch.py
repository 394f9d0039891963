"""One batch, from prompts to texts: shared prefixes once, prompts in length buckets, then step by step.

Cache columns of a row: ``[shared prefix][gap][padding][own prompt][output]``. The gap and the padding
are masked; positions count only real tokens, so a row computes what it would compute alone. Rows
leave as they end, and once enough of them have left the others move together.
"""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from resources.gpu.batching import BatchPlan
from resources.gpu.engines.base import GenerationRequest
from resources.gpu.engines.kv_buffer import KvBuffer
from resources.gpu.engines.live_row import LiveRow, LoadedModel, RowEnd

if TYPE_CHECKING:
    import torch

_COMPACT_SHARE = 0.75
"""Move the rows together when at most this share of them is still alive."""


class StaticBatch:
    """Runs one plan. ``run`` may be abandoned at any yield."""

    def __init__(
        self, loaded: LoadedModel, plan: BatchPlan, requests: Sequence[GenerationRequest]
    ) -> None:
        import torch

        self._torch = torch
        self._loaded = loaded
        self._plan = plan
        self._rows = [
            LiveRow.open(loaded, row, requests[row.index], group.shared, number)
            for number, group in enumerate(plan.groups)
            for row in group.rows
        ]
        self._rows.sort(key=lambda live: len(live.suffix))
        self._alive = [True] * len(self._rows)
        self._start = plan.prefix_width + plan.suffix_width
        self._cache = KvBuffer(loaded.layers, len(self._rows), plan.width)
        self._mask = self._initial_mask()

    def _initial_mask(self) -> "torch.Tensor":
        """Visible cache columns [rows, width]; all output columns are, since later ones are cut off."""
        torch = self._torch
        mask = torch.zeros((len(self._rows), self._plan.width), dtype=torch.bool)
        for place, live in enumerate(self._rows):
            mask[place, : live.shared] = True
            mask[place, self._start - len(live.suffix) :] = True
        return mask.to(self._loaded.device)

    def run(self) -> Iterator[RowEnd]:
        """Yield every row as it ends."""
        with self._torch.inference_mode():
            self._prefill_prefixes()
            logits = self._prefill_suffixes()
            ended = self._advance(logits)
        yield from ended
        while any(self._alive):
            with self._torch.inference_mode():
                self._compact()
                ended = self._advance(self._step())
            yield from ended

    def _prefill_prefixes(self) -> None:
        """Compute each group's shared beginning once and copy it to the group's rows."""
        torch, width = self._torch, self._plan.prefix_width
        if width == 0:
            return
        groups = self._plan.groups
        tokens = torch.zeros((len(groups), width), dtype=torch.long)
        for place, group in enumerate(groups):
            tokens[place, : group.shared] = torch.tensor(group.rows[0].tokens[: group.shared])
        cache = KvBuffer(self._loaded.layers, len(groups), width)
        # Right padding needs no mask: causal attention never looks ahead, and the pads are masked later.
        self._loaded.model.base_model(
            input_ids=tokens.to(self._loaded.device), past_key_values=cache, use_cache=True
        )
        self._cache.spread(cache, [live.group for live in self._rows], width)

    def _prefill_suffixes(self) -> "torch.Tensor":
        """Compute the own part of every prompt, rows of like length together; logits [rows, vocabulary]."""
        parts = []
        first = 0
        while first < len(self._rows):
            end = first + 1
            while end < len(self._rows) and (
                (end + 1 - first) * len(self._rows[end].suffix) <= self._loaded.prefill_tokens
            ):
                end += 1
            parts.append(self._prefill_rows(first, end))
            first = end
        return self._torch.cat(parts)

    def _prefill_rows(self, first: int, end: int) -> "torch.Tensor":
        torch = self._torch
        rows = self._rows[first:end]
        width = len(rows[-1].suffix)
        tokens = torch.zeros((len(rows), width), dtype=torch.long)
        positions = torch.zeros((len(rows), width), dtype=torch.long)
        for place, live in enumerate(rows):
            size = len(live.suffix)
            tokens[place, width - size :] = torch.tensor(live.suffix)
            positions[place, width - size :] = torch.arange(live.shared, live.shared + size)
        self._cache.begin(first, end, self._start - width)
        return self._forward(tokens, positions, self._mask[first:end, : self._start])

    def _step(self) -> "torch.Tensor":
        """One more token for every row; logits [rows, vocabulary]."""
        torch = self._torch
        tokens = torch.tensor([[live.output[-1]] for live in self._rows])
        positions = torch.tensor(
            [[len(live.row.tokens) + len(live.output) - 1] for live in self._rows]
        )
        self._cache.begin(0, len(self._rows), self._start)
        self._start += 1
        return self._forward(tokens, positions, self._mask[:, : self._start])

    def _forward(
        self, tokens: "torch.Tensor", positions: "torch.Tensor", mask: "torch.Tensor"
    ) -> "torch.Tensor":
        device = self._loaded.device
        output = self._loaded.model(
            input_ids=tokens.to(device),
            position_ids=positions.to(device),
            attention_mask=mask,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1]

    def _advance(self, logits: "torch.Tensor") -> list[RowEnd]:
        """Choose every living row's token and take out the rows that end with it."""
        highest, best = (part.tolist() for part in logits.max(-1))
        ended = []
        for place, live in enumerate(self._rows):
            if not self._alive[place]:
                continue
            if not math.isfinite(highest[place]):
                raise RuntimeError("the model's output is not finite")
            token = best[place]
            if not live.plain:
                token = live.choose(logits[place : place + 1])
            live.output.append(token)
            end = live.end(self._loaded)
            if end is not None:
                self._alive[place] = False
                ended.append(end)
        return ended

    def _compact(self) -> None:
        """Drop the ended rows once they are a good part of the batch."""
        living = [place for place, alive in enumerate(self._alive) if alive]
        if len(living) > _COMPACT_SHARE * len(self._rows):
            return
        self._cache.keep(living)
        self._mask = self._mask[living]
        self._rows = [self._rows[place] for place in living]
        self._alive = [True] * len(living)
