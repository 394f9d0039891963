"""Constrained decoding: which tokens a row's JSON schema or list of alternatives still allows."""

import json
import re
from collections.abc import Collection
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any

from resources.gpu.engines.base import GenerationRequest

if TYPE_CHECKING:
    import torch
    import xgrammar


_PLACE = re.compile(r"^\[[\d:]+\] \S+:\d+: ")
"""The time and source line before a message of the compiler."""

_compilers: "dict[tuple[str, int, tuple[int, ...]], xgrammar.GrammarCompiler]" = {}
_compilers_lock = Lock()


class GrammarError(ValueError):
    """A schema or list that cannot be compiled."""


def grammar_key(request: GenerationRequest) -> str | None:
    """A text that names the request's grammar, None for free text."""
    if request.one_of is not None:
        return "one_of:" + json.dumps(request.one_of)
    if request.json_schema is not None:
        return "json_schema:" + json.dumps(request.json_schema, sort_keys=True)
    return None


class GrammarCompiler:
    """Compiles each distinct grammar once; safe to use from several threads."""

    def __init__(
        self, tokenizer: Any, name: str, vocabulary: int, end_tokens: Collection[int]
    ) -> None:
        """Does nothing yet: to read the tokenizer takes half a second. ``name`` tells it from others."""
        self._tokenizer = tokenizer
        self._identity = (name, vocabulary, tuple(sorted(end_tokens)))
        self._vocabulary = vocabulary
        self._compile = lru_cache(maxsize=256)(self._compile_key)

    @property
    def _compiler(self) -> "xgrammar.GrammarCompiler":
        """Shared by the engines whose tokenizers are the same."""
        import xgrammar

        with _compilers_lock:
            if self._identity not in _compilers:
                _, vocabulary, end_tokens = self._identity
                info = xgrammar.TokenizerInfo.from_huggingface(
                    self._tokenizer, vocab_size=vocabulary, stop_token_ids=list(end_tokens)
                )
                _compilers[self._identity] = xgrammar.GrammarCompiler(info, max_threads=2)
            return _compilers[self._identity]

    def compile(self, key: str) -> "xgrammar.CompiledGrammar":
        """Raises GrammarError with the compiler's first line."""
        try:
            return self._compile(key)
        except (RuntimeError, ValueError, TypeError) as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise GrammarError(
                f"the {key.partition(':')[0]} cannot be compiled: {_PLACE.sub('', reason[-1])}"
            ) from None

    def _compile_key(self, key: str) -> "xgrammar.CompiledGrammar":
        kind, _, body = key.partition(":")
        if kind == "json_schema":
            return self._compiler.compile_json_schema(body, any_whitespace=False)
        alternatives = json.loads(body)
        if not alternatives or not all(alternatives):
            raise GrammarError("the list is empty or holds an empty text")
        literals = " | ".join(json.dumps(text, ensure_ascii=False) for text in alternatives)
        return self._compiler.compile_grammar(f"root ::= {literals}")

    def matcher(self, request: GenerationRequest) -> "RowGrammar | None":
        """The state of one row; None for free text."""
        key = grammar_key(request)
        return (
            None if key is None else RowGrammar(self.compile(key), self._vocabulary, request.one_of)
        )


class RowGrammar:
    """What one row may still say."""

    def __init__(
        self,
        compiled: "xgrammar.CompiledGrammar",
        vocabulary: int,
        alternatives: tuple[str, ...] | None,
    ) -> None:
        import xgrammar

        self._matcher = xgrammar.GrammarMatcher(compiled)
        self._mask = xgrammar.allocate_token_bitmask(1, vocabulary)
        self._alternatives = alternatives

    def restrict(self, logits: "torch.Tensor") -> bool:
        """Set the forbidden tokens of one row of logits [1, vocabulary] to -inf, in place.

        False, and nothing set, when every token is forbidden: a schema can lead to a point that
        no text goes on from.
        """
        import xgrammar

        # The mask is written only where it forbids something; its bits past the vocabulary are 0.
        if self._matcher.fill_next_token_bitmask(self._mask):
            if not self._mask.any():
                return False
            xgrammar.apply_token_bitmask_inplace(logits, self._mask.to(logits.device))
        return True

    def accept(self, token: int) -> bool:
        """Take the chosen token; False when the grammar does not allow it."""
        return bool(self._matcher.accept_token(token))

    @property
    def ended(self) -> bool:
        """The end token was taken."""
        return bool(self._matcher.is_terminated())

    def decided(self, text: str) -> str | None:
        """The one alternative that can still follow ``text``, if there is just one."""
        if self._alternatives is None:
            return None
        left = [item for item in self._alternatives if item.startswith(text)]
        return left[0] if len(left) == 1 else None
