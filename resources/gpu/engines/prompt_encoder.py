"""From a request to the tokens that a model reads, and why a request can have none."""

from functools import lru_cache
from threading import Lock
from typing import Any

from resources.gpu.engines.base import EngineError, GenerationRequest
from resources.gpu.engines.control_marks import ControlMarks, chat
from resources.gpu.grammar import GrammarCompiler, GrammarError, grammar_key
from resources.interaction import ErrorClass


class PromptEncoder:
    """One model's tokenizer, chat template and limits; safe to use from several threads."""

    def __init__(
        self, tokenizer: Any, vocabulary: int, context: int, grammars: GrammarCompiler
    ) -> None:
        """``vocabulary``: rows of the model's embedding. ``context``: tokens, 0 for no limit."""
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self.context = context
        """May become smaller; what the model's memory has room for is known later."""
        self._grammars = grammars
        self._lock = Lock()
        self._marks = ControlMarks(tokenizer)
        self._encoded = lru_cache(maxsize=4096)(self._tokenize)

    def limit(self, context: int) -> None:
        """A prompt and its answer have at most ``context`` tokens."""
        self.context = min(self.context or context, context)

    def encode(self, prompt: str, system: str | None) -> tuple[int, ...]:
        """The prompt's tokens, chat template included where the tokenizer has one."""
        return self._encoded(prompt, system)

    def forget(self) -> None:
        """Drop the prompts encoded so far."""
        self._encoded.cache_clear()

    def _tokenize(self, prompt: str, system: str | None) -> tuple[int, ...]:
        with self._lock:
            guard = self._marks.found_in(prompt) or self._marks.found_in(system or "")
            if self._tokenizer.chat_template is None:
                text = f"{system}\n\n{prompt}" if system else prompt
                return tuple(self._tokenizer(text, split_special_tokens=guard)["input_ids"])
            if guard:
                return self._marks.encode_chat(prompt, system)
            encoded = self._tokenizer.apply_chat_template(
                chat(prompt, system), add_generation_prompt=True, return_dict=True
            )
            return tuple(encoded["input_ids"])

    def check(self, request: GenerationRequest) -> EngineError | None:
        """Why the request cannot run, or None."""
        if not request.prompt.strip():
            return EngineError(ErrorClass.TEMPLATE, "the prompt is empty")
        if request.max_new_tokens < 1:
            return EngineError(ErrorClass.ENGINE, f"max_new_tokens is {request.max_new_tokens}")
        tokens = self.encode(request.prompt, request.system)
        needed = len(tokens) + request.max_new_tokens
        if self.context and needed > self.context:
            return EngineError(
                ErrorClass.PROMPT_TOO_LONG,
                f"{len(tokens)} prompt tokens and {request.max_new_tokens} new ones exceed"
                f" the context of {self.context}",
            )
        if max(tokens) >= self._vocabulary:
            return EngineError(
                ErrorClass.POISON,
                f"token {max(tokens)} is outside the vocabulary of {self._vocabulary}",
            )
        key = grammar_key(request)
        if key is not None:
            try:
                self._grammars.compile(key)
            except GrammarError as error:
                return EngineError(ErrorClass.ENGINE, str(error))
        return None
