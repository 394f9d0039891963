"""Many rows at once, each leaving as it ends and its place taken by the next that waits.

The host reads a step's tokens while the device is already at the next step. A row that turns out to
have ended has then computed one token too many, which nobody sees. Rows whose choice is not the
plain argmax (a grammar, a penalty, a temperature) make the batch wait for the host at every step.
"""

import math
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from resources.gpu.batching import BatchPlan
from resources.gpu.engines.arena_model import ArenaModel, Piece, StepTokens
from resources.gpu.engines.base import GenerationRequest
from resources.gpu.engines.live_row import LiveRow, LoadedModel, RowEnd

if TYPE_CHECKING:
    import torch

_REFILL_SHARE = 0.8
"""Admit more rows when at most this share of those after the last admission is left."""


class ContinuousBatch:
    """Runs one plan over the model's arena. ``run`` may be abandoned at any yield."""

    def __init__(
        self,
        loaded: LoadedModel,
        plan: BatchPlan,
        requests: Sequence[GenerationRequest],
        model: ArenaModel,
    ) -> None:
        import torch

        self._torch = torch
        self._loaded = loaded
        self._plan = plan
        self._model = model
        self._spans = model.arena.spans
        # Longest first within a group: what takes longest must not start last.
        self._waiting = deque(
            LiveRow.open(loaded, row, requests[row.index], group.shared, number)
            for number, group in enumerate(plan.groups)
            for row in sorted(group.rows, key=lambda row: -row.expected)
        )
        self._seated: list[LiveRow] = []
        self._after_admission = 0
        self._held: dict[int, tuple[int, int]] = {}
        """Spans by row; by ``-1 - group`` those of the shared beginnings."""
        self._started: dict[int, int] = {}
        """Tokens that each row has got or will get from steps already started."""
        self._under_way: tuple[list[LiveRow], StepTokens] | None = None

    def run(self) -> Iterator[RowEnd]:
        """Yield every row as it ends."""
        try:
            while self._waiting or self._seated or self._under_way:
                with self._torch.inference_mode():
                    ended = self._turn()
                yield from ended
        finally:
            self._model.keep([])
            for span in self._held.values():
                self._spans.give(*span)

    def _turn(self) -> list[RowEnd]:
        if self._waiting and len(self._seated) <= _REFILL_SHARE * self._after_admission:
            return self._finish_step() + self._admit()
        if not self._seated:
            return self._finish_step()
        return self._step()

    # prompts

    def _admit(self) -> list[RowEnd]:
        """Compute the prompts of all waiting rows that find a seat and a span."""
        rows: list[LiveRow] = []
        beginnings: list[Piece] = []
        copies: tuple[list[int], list[int]] = ([], [])
        pieces: list[Piece] = []
        while self._waiting and len(self._seated) + len(rows) < self._model.max_rows:
            live = self._waiting[0]
            beginning = self._beginning(live, beginnings)
            start = self._take(live.row.index, len(live.row.tokens) + live.row.max_new_tokens)
            if start is None:
                if rows or self._seated or not live.shared:
                    break
                # Alone it may fit: the shared beginnings stand in its way.
                live.shared = 0
                beginnings.clear()
                self._forget_beginnings(needed=())
                continue
            rows.append(self._waiting.popleft())
            if beginning is not None:
                copies[0].extend(range(beginning, beginning + live.shared))
                copies[1].extend(range(start, start + live.shared))
            shared = live.shared if beginning is not None else 0
            pieces.append(Piece(start, shared, live.row.tokens[shared:]))
        if not rows and not self._seated:
            raise MemoryError("the row does not fit into the memory for keys and values")
        if beginnings:
            self._model.prompts(beginnings)
        if copies[0]:
            self._model.arena.copy(*copies)
        ended = self._first_tokens(rows, pieces) if rows else []
        self._forget_beginnings(needed={live.group for live in self._waiting if live.shared})
        self._after_admission = len(self._seated)
        return ended

    def _beginning(self, live: LiveRow, pieces: list[Piece]) -> int | None:
        """Where the group's shared tokens are or will be; None where they find no place."""
        if not live.shared:
            return None
        key = -1 - live.group
        if key not in self._held:
            start = self._take(key, live.shared)
            if start is None:
                return None
            pieces.append(Piece(start, 0, live.row.tokens[: live.shared]))
        return self._held[key][0]

    def _forget_beginnings(self, needed: Collection[int]) -> None:
        for key in [key for key in self._held if key < 0 and -1 - key not in needed]:
            self._spans.give(*self._held.pop(key))

    def _take(self, key: int, size: int) -> int | None:
        start = self._spans.take(size)
        if start is not None:
            self._held[key] = (start, size)
        return start

    def _first_tokens(self, rows: Sequence[LiveRow], pieces: Sequence[Piece]) -> list[RowEnd]:
        logits = self._model.prompts(pieces)
        highest, best = (part.tolist() for part in logits.max(-1))
        ended = []
        for place, (live, piece) in enumerate(zip(rows, pieces, strict=True)):
            token = self._choose(live, best[place], highest[place], logits, place)
            end = self._append(live, token)
            if end is None:
                self._started[live.row.index] = 1
                self._seated.append(live)
                self._model.seat(token, piece, self._held[live.row.index][1])
            else:
                ended.append(end)
        return ended

    # steps

    def _step(self) -> list[RowEnd]:
        """Start a step; read the one before, or this one where its tokens must be chosen here."""
        self._leave([live for live in self._seated if self._has_all(live)])
        if not self._seated:
            return self._finish_step()
        plain = all(live.plain for live in self._seated)
        before = [] if plain else self._finish_step()
        if not self._seated:
            return before
        # Kept before the step under way is read: those that end there move the seats of the others.
        rows, tokens = list(self._seated), self._model.step()
        for live in rows:
            self._started[live.row.index] += 1
        if plain:
            before = self._finish_step()
        self._under_way = (rows, tokens)
        return before if plain else before + self._finish_step()

    def _has_all(self, live: LiveRow) -> bool:
        """Its last token is already being computed."""
        return self._started[live.row.index] >= live.row.max_new_tokens

    def _finish_step(self) -> list[RowEnd]:
        """Read the tokens of the step under way, if any."""
        if self._under_way is None:
            return []
        rows, tokens = self._under_way
        self._under_way = None
        best, highest = tokens.read()
        ended: list[RowEnd] = []
        chosen: dict[int, int] = {}
        for place, live in enumerate(rows):
            if live.row.index not in self._held:
                continue  # It had ended before this step was read.
            token = self._choose(live, best[place], highest[place], self._model.logits, place)
            if not live.plain:
                chosen[place] = token
            end = self._append(live, token)
            if end is not None:
                ended.append(end)
        if chosen:
            self._model.put_tokens(list(chosen), list(chosen.values()))
        gone = {end.row.index for end in ended}
        self._leave([live for live in self._seated if live.row.index in gone])
        return ended

    def _choose(
        self,
        live: LiveRow,
        best: int,
        highest: float,
        logits: "torch.Tensor | None",
        place: int,
    ) -> int:
        if not math.isfinite(highest):
            raise RuntimeError("the model's output is not finite")
        if live.plain or logits is None:
            return best
        return live.choose(logits[place : place + 1])

    def _append(self, live: LiveRow, token: int) -> RowEnd | None:
        live.output.append(token)
        end = live.end(self._loaded)
        if end is not None:
            self._spans.give(*self._held.pop(live.row.index))
        return end

    def _leave(self, rows: Sequence[LiveRow]) -> None:
        """Vacate the seats; a row whose last token is under way keeps its span."""
        if rows:
            leaving = {live.row.index for live in rows}
            stay = [n for n, live in enumerate(self._seated) if live.row.index not in leaving]
            self._model.keep(stay)
            self._seated = [self._seated[n] for n in stay]
