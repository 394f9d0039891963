"""Prompt templates: ``{field}`` of the subject, ``{step.output}``, ``{step.parsed.key}``.

``{{`` and ``}}`` are literal braces. Text that was put in is never expanded again. There is nothing
else: no attributes, indexes, conversions or formats. Texts go in as they are, numbers, booleans,
lists and objects as JSON. A subject's field that is absent or null is an error, since a model asked
about nothing invents something; an empty text is a value. Outputs go in without surrounding blanks.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from resources.interaction import Status, StepState

_POSITION_DIGITS = 10
"""Python refuses to read thousands of digits, and no list is that long."""
_LITTLE = 200
"""Characters of fixed text that are not worth a word, about 50 tokens."""
_BRACES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_FIELD = re.compile(r"[^\W\d][\w -]*(?<! )")
_STEP = re.compile(r"([a-z][a-z0-9_]*)\.(output|parsed)((?:\.[\w-]+)*)")


class TemplateError(Exception):
    """A prompt cannot be made; the message names the placeholder."""


@dataclass(frozen=True, slots=True)
class Placeholder:
    """One ``{...}``: a subject's field (``step`` is None) or a step's output or parsed value."""

    text: str
    """As written, with its braces."""
    step: str | None = None
    parsed: bool = False
    path: tuple[str, ...] = ()


@lru_cache(maxsize=1024)
def parse(template: str) -> tuple[str | Placeholder, ...]:
    """Literal texts and placeholders in order. TemplateError where the braces make no sense."""
    parts: list[str | Placeholder] = []
    position = 0
    for match in _BRACES.finditer(template):
        parts.append(template[position : match.start()])
        position = match.end()
        braces = match.group()
        if braces in ("{{", "}}"):
            parts.append(braces[0])
        elif match.group(1) is None:
            raise TemplateError(
                f"a single '{braces}' near '{_near(template, match.start())}'; "
                f"write '{braces * 2}' for a literal brace"
            )
        else:
            parts.append(_placeholder(match.group(1)))
    parts.append(template[position:])
    return tuple(part for part in parts if part != "")


def placeholders(template: str) -> tuple[Placeholder, ...]:
    """The placeholders of a template in order. TemplateError where the braces make no sense."""
    return tuple(part for part in parse(template) if isinstance(part, Placeholder))


def fixed_text_behind(template: str) -> tuple[int, Placeholder] | None:
    """How many characters of fixed text come behind the first placeholder, when most do.

    Only what all prompts of a step begin with is computed once for a whole batch.
    """
    parts = parse(template)
    first = next((n for n, part in enumerate(parts) if isinstance(part, Placeholder)), None)
    if first is None:
        return None
    before, behind = (
        sum(len(part) for part in side if isinstance(part, str))
        for side in (parts[:first], parts[first:])
    )
    placeholder = parts[first]
    assert isinstance(placeholder, Placeholder)
    return (behind, placeholder) if behind > max(before, _LITTLE) else None


def render(template: str, fields: Mapping[str, Any], states: Mapping[str, StepState]) -> str:
    """The prompt for one subject, given the states of the step's ancestors.

    An ancestor that has no result, because its branch was not taken or because the step tolerates
    its loss, gives empty text. TemplateError when a field or a key is not there.
    """
    return "".join(
        part if isinstance(part, str) else _text(part, fields, states) for part in parse(template)
    )


def lookup(value: Any, path: Sequence[str]) -> tuple[Any] | None:
    """The value at a path into JSON data, in a tuple of one; None when there is none."""
    for part in path:
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif (
            isinstance(value, list)
            and len(part) < _POSITION_DIGITS
            and part.isdecimal()
            and int(part) < len(value)
        ):
            value = value[int(part)]
        else:
            return None
    return (value,)


def _placeholder(inner: str) -> Placeholder:
    text = f"{{{inner}}}"
    if step := _STEP.fullmatch(inner):
        name, kind, path = step.groups()
        if kind == "parsed" or not path:
            return Placeholder(text, name, kind == "parsed", tuple(path.split(".")[1:]))
    elif _FIELD.fullmatch(inner):
        return Placeholder(text)
    shown = text if len(text) <= 60 else text[:57] + "..."
    raise TemplateError(
        f"'{' '.join(shown.split())}' is no placeholder; write {{field}}, {{step.output}} "
        "or {step.parsed.key}, and {{ }} for literal braces"
    )


def _text(
    placeholder: Placeholder, fields: Mapping[str, Any], states: Mapping[str, StepState]
) -> str:
    if placeholder.step is None:
        value = fields.get(placeholder.text[1:-1])
        if value is None:
            how = "null" if placeholder.text[1:-1] in fields else "missing"
            raise TemplateError(f"{placeholder.text}: the field is {how} in this subject")
        return _as_text(value)
    state = states.get(placeholder.step)
    if state is None or not state.status.final:
        raise TemplateError(f"{placeholder.text}: step '{placeholder.step}' has not ended")
    if state.status is not Status.COMPLETED:
        return ""
    if not placeholder.parsed:
        return (state.output or "").strip()
    found = lookup(state.parsed, placeholder.path)
    if found is None:
        raise TemplateError(
            f"{placeholder.text}: the answer of step '{placeholder.step}' has no such key"
        )
    return _as_text(found[0])


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _near(template: str, position: int) -> str:
    return " ".join(template[max(0, position - 15) : position + 15].split())
