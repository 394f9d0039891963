"""Markdown that holds whatever a model wrote without being changed by it."""

import re
import unicodedata
from collections.abc import Sequence

_BACKTICKS = re.compile(r"`+")
_KEPT_CONTROLS = "\n\t"
_ESCAPED_CATEGORIES = ("Cc", "Cs")
# These turn the direction of what follows: a text could show as another one.
_DIRECTIONS = frozenset(map(chr, [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]))


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table of our own texts; the first column is left-aligned, the others right.

    None shows as ``-``. Foreign text belongs in ``code`` or ``fence``, outside of tables.
    """
    lines = [list(headings), *([_cell(value) for value in row] for row in rows)]
    columns = [
        _column(list(column), place) for place, column in enumerate(zip(*lines, strict=True))
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in zip(*columns, strict=True))


def _column(texts: list[str], place: int) -> list[str]:
    """A table's column padded to one width, the line under its heading included."""
    width = max(3, *map(len, texts))
    if place == 0:
        heading, *rest = [text.ljust(width) for text in texts]
        return [heading, "-" * width, *rest]
    heading, *rest = [text.rjust(width) for text in texts]
    return [heading, "-" * (width - 1) + ":", *rest]


def listing(pairs: Sequence[tuple[str, object]]) -> str:
    """One ``- name: value`` line each."""
    return "\n".join(f"- {name}: {_cell(value)}" for name, value in pairs)


def code(text: str) -> str:
    """A foreign text on one line, as inline code whose backticks outnumber those inside."""
    content = visible(text).replace("\n", " ").replace("\t", " ") or "(empty)"
    ticks = "`" * (_longest_run(content) + 1)
    pad = " " if content.startswith("`") or content.endswith("`") else ""
    return f"{ticks}{pad}{content}{pad}{ticks}"


def fence(text: str, language: str = "text") -> str:
    """A foreign text as a block, its fence longer than any run of backticks inside."""
    content = visible(text)
    ticks = "`" * max(3, _longest_run(content) + 1)
    return f"{ticks}{language}\n{content}\n{ticks}"


def visible(text: str) -> str:
    """Control characters as escapes (``\\x1b``): a terminal must not obey a model's output."""
    return "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    if character in _KEPT_CONTROLS:
        return character
    if character in _DIRECTIONS or unicodedata.category(character) in _ESCAPED_CATEGORIES:
        return character.encode("unicode_escape").decode()
    return character


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return " ".join(visible(str(value)).split()).replace("|", "&#124;")


def _longest_run(text: str) -> int:
    return max((len(run) for run in _BACKTICKS.findall(text)), default=0)
