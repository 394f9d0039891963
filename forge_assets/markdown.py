"""Markdown that holds whatever a model wrote without being changed by it."""

import re
from collections.abc import Sequence

from resources.plain_text import visible

_BACKTICKS = re.compile(r"`+")
_MARKUP = re.compile(r"<(?=[A-Za-z/!?])|`|\](?=[(\[:])")
"""What begins HTML, code or a link; ``< 15 %`` stays."""


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table of our own texts; the first column and those that hold words are left-aligned.

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
    if place == 0 or any(text[:1].isalpha() for text in texts[1:]):
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


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return plain(str(value)).replace("|", "&#124;")


def plain(text: str) -> str:
    """A text on one line in which nothing is HTML, code or a link."""
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", " ".join(visible(text).split()))


def _longest_run(text: str) -> int:
    return max((len(run) for run in _BACKTICKS.findall(text)), default=0)
