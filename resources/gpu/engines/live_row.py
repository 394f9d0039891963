"""One row of a batch while it is generated: the choice of its next token and the end of its text."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from resources.gpu.batching import Row
from resources.gpu.engines.base import GenerationRequest
from resources.gpu.engines.repetition import CHECK_EVERY, loops
from resources.gpu.engines.sampling import (
    is_plain_greedy,
    penalize_repetition,
    row_generator,
    sample,
)
from resources.gpu.grammar import GrammarCompiler, RowGrammar

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class LoadedModel:
    """What a batch needs of the engine."""

    model: Any
    tokenizer: Any
    device: "torch.device"
    layers: int
    end_tokens: frozenset[int]
    grammars: GrammarCompiler
    prefill_tokens: int
    """Padded prompt tokens of one forward pass."""
    cut_loops: bool = True
    """End a row that only repeats itself."""

    def text(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True))


@dataclass(frozen=True)
class RowEnd:
    """A row that left the batch."""

    row: Row
    text: str
    finish_reason: Literal["stop", "length", "repetition"]
    output_tokens: int
    fault: str | None = None
    """Why the row could not go on; its text then is no answer."""


@dataclass
class LiveRow:
    """A row still in the batch. ``shared`` tokens of its prompt are computed with its ``group``."""

    row: Row
    request: GenerationRequest
    shared: int
    group: int
    grammar: RowGrammar | None
    generator: "torch.Generator | None"
    output: list[int] = field(default_factory=list)
    fault: str | None = None

    @classmethod
    def open(
        cls, loaded: LoadedModel, row: Row, request: GenerationRequest, shared: int, group: int
    ) -> "LiveRow":
        grammar = loaded.grammars.matcher(request)
        return cls(row, request, shared, group, grammar, row_generator(request, loaded.device))

    @property
    def suffix(self) -> Sequence[int]:
        """The part of the prompt that is the row's own."""
        return self.row.tokens[self.shared :]

    @property
    def plain(self) -> bool:
        """The next token is the plain argmax of the model's logits."""
        return self.grammar is None and is_plain_greedy(self.request)

    def choose(self, logits: "torch.Tensor") -> int:
        """The next token from the model's logits [1, vocabulary], for a row that is not plain.

        A row whose grammar allows nothing gets a ``fault`` and any token; its neighbours go on.
        """
        import torch

        scores = logits.float()
        if scores is logits:
            scores = logits.clone()
        if self.request.repetition_penalty != 1.0:
            seen = torch.tensor([*self.row.tokens, *self.output], device=scores.device).unique()
            penalize_repetition(scores, self.request.repetition_penalty, seen)
        if self.grammar is not None and not self.grammar.restrict(scores):
            self.fault = "the json_schema or one_of allows no way to go on at this point"
            return 0
        token = sample(scores, self.request, self.generator)
        if self.grammar is not None and not self.grammar.accept(token):
            raise RuntimeError(f"the grammar refused token {token} that it had allowed")
        return token

    def end(self, loaded: LoadedModel) -> RowEnd | None:
        """The row's end, if its last token is one."""
        output = self.output
        count = len(output)
        if self.fault is not None:
            return RowEnd(self.row, loaded.text(output[:-1]), "stop", count - 1, self.fault)
        if output[-1] in loaded.end_tokens:
            return RowEnd(self.row, loaded.text(output[:-1]), "stop", count)
        if self.grammar is not None:
            decided = self.grammar.decided(loaded.text(output))
            if decided is not None:
                return RowEnd(self.row, decided, "stop", count)
            if self.grammar.ended:
                return RowEnd(self.row, loaded.text(output), "stop", count)
        if self.request.stop:
            cut = self._stopped(loaded)
            if cut is not None:
                return RowEnd(self.row, cut, "stop", count)
        if count >= self.row.max_new_tokens:
            return RowEnd(self.row, loaded.text(output), "length", count)
        if loaded.cut_loops and count % CHECK_EVERY == 0 and loops(output):
            return RowEnd(self.row, loaded.text(output), "repetition", count)
        return None

    def _stopped(self, loaded: LoadedModel) -> str | None:
        """The text before the first stop string, if one is complete.

        Only the last tokens can have completed one; a token is at least one byte, a character at
        most four.
        """
        reach = 4 * max(len(stop) for stop in self.request.stop) + 4
        tail = loaded.text(self.output[-reach:])
        if not any(stop in tail for stop in self.request.stop):
            return None
        text = loaded.text(self.output)
        places = [place for stop in self.request.stop if (place := text.find(stop)) >= 0]
        return text[: min(places)] if places else None
