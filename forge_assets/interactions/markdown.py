"""Markdown that holds whatever a model wrote without being changed by it."""

import re
import unicodedata
from collections.abc import Sequence

_BACKTICKS = re.compile(r"`+")
_KEPT_CONTROLS = "\n\t"
_HIDDEN = frozenset({"Cc", "Cs"}) | {"Cf"}  # Cf turns the direction of text, among others


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table of our own texts; the first column is left-aligned, the others right.

    None shows as ``-``. Foreign text belongs in ``code`` or ``fence``, outside of tables.
    """
    lines = [list(headings), *([_cell(value) for value in row] for row in rows)]
    lines.insert(1, ["---", *["---:"] * (len(headings) - 1)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def listing(pairs: Sequence[tuple[str, object]]) -> str:
    """One ``- name: value`` line each."""
    return "\n".join(f"- {name}: {_cell(value)}" for name, value in pairs)


def code(text: str) -> str:
    """A foreign text on one line, as inline code whose backticks outnumber those inside."""
    content = " ".join(visible(text).split()) or "(empty)"
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
    return "".join(
        character
        if character in _KEPT_CONTROLS or unicodedata.category(character) not in _HIDDEN
        else character.encode("unicode_escape").decode()
        for character in text
    )


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return " ".join(visible(str(value)).split()).replace("|", "&#124;")


def _longest_run(text: str) -> int:
    return max((len(run) for run in _BACKTICKS.findall(text)), default=0)
