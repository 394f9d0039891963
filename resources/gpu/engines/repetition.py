"""An answer that only repeats itself: found while it is generated, and cut. Pure."""

from collections.abc import Sequence

CHECK_EVERY = 32
"""Tokens between two looks."""
_LONGEST_PERIOD = 32
_REPEATED = 128
"""Tokens that must repeat: text that is meant, a table's rule or padding, is shorter."""


def loops(tokens: Sequence[int]) -> bool:
    """Whether the last 128 tokens each equal the one a fixed distance, up to 32, before."""
    for period in range(1, _LONGEST_PERIOD + 1):
        if len(tokens) < _REPEATED + period:
            return False
        if tokens[-_REPEATED:] == tokens[-_REPEATED - period : -period]:
            return True
    return False
