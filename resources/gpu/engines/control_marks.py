"""The texts that a tokenizer reads as control tokens, and prompts that hold such texts as data."""

import re
import uuid
from typing import Any


def chat(prompt: str, system: str | None) -> list[dict[str, str]]:
    """The messages of one request."""
    messages = [{"role": "system", "content": system}] if system else []
    return [*messages, {"role": "user", "content": prompt}]


class ControlMarks:
    """Special tokens such as ``<|im_end|>``: only the chat template may say them, never a prompt."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        special = {
            token.content: (number, token.lstrip, token.rstrip)
            for number, token in tokenizer.added_tokens_decoder.items()
            if token.special and token.content.strip()
        }
        self._ids = {text.strip(): number for text, (number, _, _) in special.items()}
        # The longest first; some take the blanks around them away.
        parts = [
            (r"\s*" if left else "") + re.escape(text) + (r"\s*" if right else "")
            for text, (_, left, right) in sorted(special.items(), key=lambda item: -len(item[0]))
        ]
        self._any = re.compile("|".join(parts)) if parts else None

    def found_in(self, text: str) -> bool:
        return self._any is not None and self._any.search(text) is not None

    def encode_chat(self, prompt: str, system: str | None) -> tuple[int, ...]:
        """The tokens of the chat, marks of the template as control tokens, those in the data as text.

        The template is rendered with stand-ins for the marks in the data. The tokenizer itself
        cuts the text at its marks before all else, so to encode the pieces between them one by one
        gives the same tokens.
        """
        assert self._any is not None
        hidden: list[str] = []
        name = uuid.uuid4().hex

        def hide(match: re.Match[str]) -> str:
            hidden.append(match[0])
            return f"{name}{len(hidden) - 1:08d}"

        messages = [
            message | {"content": self._any.sub(hide, message["content"])}
            for message in chat(prompt, system)
        ]
        rendered = self._tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=False
        )
        stand_in = re.compile(rf"{name}(\d{{8}})")

        def text_tokens(start: int, end: int) -> list[int]:
            piece = rendered[start:end]
            return self._plain(stand_in.sub(lambda match: hidden[int(match[1])], piece))

        tokens: list[int] = []
        start = 0
        for match in self._any.finditer(rendered):
            tokens += text_tokens(start, match.start())
            tokens.append(self._ids[match[0].strip()])
            start = match.end()
        return (*tokens, *text_tokens(start, len(rendered)))

    def _plain(self, text: str) -> list[int]:
        encoded = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True)
        return list(encoded["input_ids"])
