"""Forward passes over a KvArena: prompts of any length together, then one more token for every seat.

What a step needs lies on the device and moves on there, so that a step can be a CUDA graph and the
next can start before the host has read this one's tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from resources.gpu.engines import arena_attention
from resources.gpu.engines.arena_attention import ArenaPass
from resources.gpu.engines.fused import fuse
from resources.gpu.engines.kv_arena import KvArena, slot_bytes
from resources.gpu.memory_need import workspace_bytes

if TYPE_CHECKING:
    import torch

_TOKEN, _POSITION, _SLOT, _FILLED, _MOVES, _START = range(6)
_MEMORY_SHARE = 0.9
_SPAN_UNIT = 1024
"""Graphs are made for spans of up to a multiple of this: the kernels split long ones."""


@dataclass(frozen=True)
class Piece:
    """A part of a prompt: its tokens follow ``offset`` others in the span that begins at ``start``."""

    start: int
    offset: int
    tokens: Sequence[int]


class StepTokens:
    """The most likely token of every seat, on its way to the host."""

    def __init__(self, best: "torch.Tensor", highest: "torch.Tensor") -> None:
        import torch

        self._event: torch.cuda.Event | None = None
        if best.is_cuda:
            self._best, self._highest = (
                torch.empty(part.shape, dtype=part.dtype, pin_memory=True)
                for part in (best, highest)
            )
            self._best.copy_(best, non_blocking=True)
            self._highest.copy_(highest, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()
        else:
            self._best, self._highest = best, highest

    def read(self) -> tuple[list[int], list[float]]:
        """Tokens and their logits; waits for the step."""
        if self._event is not None:
            self._event.synchronize()
        return self._best.tolist(), self._highest.tolist()


class ArenaModel:
    """One model over one arena. Seats 0 to ``seated`` take part in a step."""

    def __init__(
        self, model: Any, arena: KvArena, max_rows: int, prefill_tokens: int, kernel: str
    ) -> None:
        import torch

        arena_attention.register()
        model.set_attn_implementation(arena_attention.NAME)
        self.fused = arena.layers[0][0].is_cuda and fuse(model)
        self.model = model
        self.arena = arena
        self.max_rows = max_rows
        self.kernel = kernel
        """Of arena_attention.kernels."""
        self.seated = 0
        self.logits: torch.Tensor | None = None
        """Of the last step [seats, vocabulary]; the next overwrites them."""
        self._torch = torch
        self._prefill_tokens = prefill_tokens
        self._device = arena.layers[0][0].device
        self._longest = _SPAN_UNIT
        self._vacant = torch.tensor([[0], [0], [arena.nobody], [1], [0], [arena.nobody]])
        self._vacant = self._vacant.to(self._device)
        self._seats = self._vacant.repeat(1, max_rows + 1)
        self._offsets = torch.arange(max_rows + 1, dtype=torch.int32, device=self._device)
        self._graphs: dict[tuple[int, int], tuple[Any, tuple[torch.Tensor, ...]]] = {}

    def shrink(self) -> bool:
        """Work with half as much memory from now on; False when that is not possible."""
        if self.max_rows == 1 and self._prefill_tokens == 1:
            return False
        self.max_rows = max(1, self.max_rows // 2)
        self._prefill_tokens = max(1, self._prefill_tokens // 2)
        return True

    def prompts(self, pieces: Sequence[Piece]) -> "torch.Tensor":
        """Compute the pieces; logits after each piece's last token [pieces, vocabulary]."""
        found = []
        first = 0
        while first < len(pieces):
            end, tokens = first + 1, len(pieces[first].tokens)
            while end < len(pieces) and tokens + len(pieces[end].tokens) <= self._prefill_tokens:
                tokens += len(pieces[end].tokens)
                end += 1
            found.append(self._prefill(pieces[first:end]))
            first = end
        return self._torch.cat(found)

    def _prefill(self, pieces: Sequence[Piece]) -> "torch.Tensor":
        torch = self._torch
        places = [range(piece.offset, piece.offset + len(piece.tokens)) for piece in pieces]
        ends = torch.tensor([len(piece.tokens) for piece in pieces]).cumsum(0)
        arena_pass = ArenaPass(
            self.arena,
            self._put(
                [piece.start + n for piece, own in zip(pieces, places, strict=True) for n in own]
            ),
            self._put([0, *ends.tolist()], torch.int32),
            self._put([*(piece.start for piece in pieces), self.arena.nobody], torch.int32),
            self._put([own.stop for own in places], torch.int32),
            longest_query=max(len(own) for own in places),
            longest_span=max(own.stop for own in places),
            kernel=self.kernel,
        )
        output = self.model(
            input_ids=self._put([token for piece in pieces for token in piece.tokens])[None],
            position_ids=self._put([n for own in places for n in own])[None],
            use_cache=False,
            logits_to_keep=(ends - 1).to(self._device),
            arena_pass=arena_pass,
        )
        return output.logits[0]

    def seat(self, token: int, piece: Piece, span: int) -> None:
        """Give a row the next seat: its last token, and the piece of its prompt that came last."""
        length = piece.offset + len(piece.tokens)
        slot = piece.start + length
        self._seats[:, self.seated] = self._put([token, length, slot, length + 1, 1, piece.start])
        self.seated += 1
        self._longest = max(self._longest, -(-span // _SPAN_UNIT) * _SPAN_UNIT)

    def keep(self, seats: Sequence[int]) -> None:
        """Move ``seats`` (ascending) to the front and vacate the others."""
        kept = len(seats)
        if kept:
            self._seats[:, :kept] = self._seats[:, self._put(list(seats))]
        self._seats[:, kept : self.seated] = self._vacant
        self.seated = kept

    def put_tokens(self, seats: Sequence[int], tokens: Sequence[int]) -> None:
        """Replace what the last step chose."""
        self._seats[_TOKEN, self._put(list(seats))] = self._put(list(tokens))

    def step(self) -> StepTokens:
        """Start one more token for every seat."""
        count = self.seated
        if self._device.type != "cuda":
            self.logits, best, highest = self.advance(count)
        else:
            graph, (self.logits, best, highest) = self._graph(_padded(count, self.max_rows))
            graph.replay()
        return StepTokens(best[:count], highest[:count])

    def advance(self, count: int) -> "tuple[torch.Tensor, ...]":
        """One more token for the first ``count`` seats: logits, most likely tokens, their logits."""
        seats = self._seats[:, :count]
        arena_pass = ArenaPass(
            self.arena,
            seats[_SLOT],
            self._offsets[: count + 1],
            self._seats[_START, : count + 1].int(),
            seats[_FILLED].int(),
            longest_query=1,
            longest_span=self._longest,
            kernel=self.kernel,
        )
        output = self.model(
            input_ids=seats[_TOKEN][None],
            position_ids=seats[_POSITION][None],
            use_cache=False,
            arena_pass=arena_pass,
        )
        logits = output.logits[0]
        highest, best = logits.max(-1)
        seats[_TOKEN] = best
        seats[_POSITION : _FILLED + 1] += seats[_MOVES]
        return logits, best, highest

    def _graph(self, count: int) -> "tuple[Any, tuple[torch.Tensor, ...]]":
        """The step for ``count`` seats, recorded when first needed. Recording leaves the seats alone."""
        torch, key = self._torch, (count, self._longest)
        if key not in self._graphs:
            before = self._seats.clone()
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                self.advance(count)
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            pool = next(iter(self._graphs.values()))[0].pool() if self._graphs else None
            # Another thread may bring the next model to the host's memory meanwhile.
            with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
                outputs = self.advance(count)
            self._graphs[key] = (graph, outputs)
            self._seats.copy_(before)
        return self._graphs[key]

    def _put(self, values: Sequence[int], dtype: "torch.dtype | None" = None) -> "torch.Tensor":
        tensor = self._torch.tensor(values, dtype=dtype or self._torch.int64)
        if self._device.type == "cuda":
            return tensor.pin_memory().to(self._device, non_blocking=True)
        return tensor


def _padded(count: int, most: int) -> int:
    """Seats of the graph that runs ``count``: few graphs, and few seats for nothing."""
    unit = (
        1
        if count <= 2
        else 4
        if count <= 16
        else 16
        if count <= 128
        else 32
        if count <= 256
        else 64
    )
    return min(-(-count // unit) * unit, most)


def arena_slots(model: Any, device: "torch.device", prefill_tokens: int, rows: int) -> int:
    """Slots that the device's free memory holds beside the workspace of the largest pass."""
    import torch

    shape = model.config.get_text_config().to_dict()
    workspace = workspace_bytes(shape, model.dtype.itemsize, prefill_tokens, rows)
    free, _ = torch.cuda.mem_get_info(device)
    slots = int((_MEMORY_SHARE * free - workspace) // slot_bytes(model))
    return max(slots, 1)
