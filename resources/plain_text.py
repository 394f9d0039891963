"""Foreign text made fit to be shown: nothing in it commands a terminal or poses as another text."""

import re

_HIDDEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f"
    # These turn the direction of what follows: a text could show as another one.
    r"\u202a-\u202e\u2066-\u2069"
    r"\ud800-\udfff]"
)
_LONGEST = 2_000
"""Characters of a sentence: a name in it may be as long as a file."""


def visible(text: str) -> str:
    """Control characters as escapes (``\\x1b``), but tab and line feed."""
    return _HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def sentence(text: str) -> str:
    """On one line, visible; of a very long one the beginning and the end, where the advice stands."""
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST * 3 // 4]} ... {text[-_LONGEST // 4 :]}"
    return visible(text.replace("\r\n", " ").replace("\n", " ").replace("\t", " "))
