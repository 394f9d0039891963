"""Which requests share a forward pass, and which part of their prompts is computed once. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise


@dataclass(frozen=True)
class Row:
    """One tokenized request; ``index`` is its place in the caller's list."""

    index: int
    tokens: Sequence[int]
    max_new_tokens: int
    expected_tokens: int | None = None

    @property
    def expected(self) -> int:
        """How long the answer will probably be."""
        return self.expected_tokens or self.max_new_tokens


@dataclass(frozen=True)
class PrefixGroup:
    """Rows whose prompts begin with the same ``shared`` tokens."""

    rows: tuple[Row, ...]
    shared: int


@dataclass(frozen=True)
class BatchPlan:
    """One forward batch."""

    groups: tuple[PrefixGroup, ...]
    prefix_width: int = field(init=False)
    suffix_width: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "prefix_width", max(group.shared for group in self.groups))
        suffixes = [len(row.tokens) - group.shared for group in self.groups for row in group.rows]
        object.__setattr__(self, "suffix_width", max(suffixes))

    @property
    def rows(self) -> list[Row]:
        return [row for group in self.groups for row in group.rows]

    @property
    def width(self) -> int:
        """Cache columns: shared prefixes, then padded suffixes, then the longest output."""
        return self.prefix_width + self.suffix_width + max(row.max_new_tokens for row in self.rows)


def plan_batches(
    rows: Sequence[Row], max_batch: int, token_budget: int, share_prefixes: bool = True
) -> list[BatchPlan]:
    """Cut ``rows`` into batches of at most ``max_batch`` rows and ``token_budget`` cache columns.

    Rows with a common beginning stay together and, among them, rows of like length. Batches are of
    even size, since a small last one costs almost as much per step as a full one. A row larger
    than the budget gets a batch of its own.
    """
    ordered = sorted(rows, key=lambda row: (list(row.tokens), row.index))
    groups = _prefix_groups(ordered) if share_prefixes else [PrefixGroup(tuple(ordered), 0)]
    line = [
        (group.shared, row)
        for group in groups
        for row in sorted(group.rows, key=lambda row: (len(row.tokens), row.expected, row.index))
    ]
    plans: list[BatchPlan] = []
    start = 0
    while start < len(line):
        left = len(line) - start
        size = _even(left, max_batch)
        while size > 1 and size * _plan(line[start : start + size]).width > token_budget:
            size = _even(left, size - 1)
        plans.append(_plan(line[start : start + size]))
        start += size
    return plans


def _even(rows: int, limit: int) -> int:
    """The size of the first of the fewest even batches of at most ``limit`` rows."""
    return -(-rows // -(-rows // limit))


def _plan(line: Sequence[tuple[int, Row]]) -> BatchPlan:
    """Put the neighbours that share a prefix back into groups."""
    groups: list[PrefixGroup] = []
    for shared, row in line:
        last = groups[-1] if groups else None
        if (
            last
            and last.shared == shared
            and list(last.rows[0].tokens[:shared]) == list(row.tokens[:shared])
        ):
            groups[-1] = PrefixGroup((*last.rows, row), shared)
        else:
            groups.append(PrefixGroup((row,), shared))
    return BatchPlan(tuple(groups))


def _prefix_groups(ordered: Sequence[Row]) -> list[PrefixGroup]:
    """Split sorted rows so that the fewest prompt tokens are computed.

    A group costs its shared beginning once plus the rest of every row; the cheapest split is found
    over all places to cut. Sorted order makes a group's shared length the least of its neighbours'.
    """
    import numpy as np

    count = len(ordered)
    spare = [len(row.tokens) - 1 for row in ordered]
    common = [_common(a.tokens, b.tokens) for a, b in pairwise(ordered)]
    saved = np.zeros(count + 1, dtype=np.int64)
    """saved[i]: prompt tokens not computed twice among the first i rows, at best."""
    cut = [0] * (count + 1)
    shared = np.zeros(count, dtype=np.int64)
    """shared[i]: tokens that all rows from i up to the last one looked at begin with."""
    others = np.arange(count, 0, -1)
    for end in range(1, count + 1):
        saved[end], cut[end] = saved[end - 1], end - 1
        if end < 2:
            continue
        shared[end - 2] = max(0, min(common[end - 2], spare[end - 2], spare[end - 1]))
        np.minimum(shared[: end - 1], shared[end - 2], out=shared[: end - 1])
        gains = saved[: end - 1] + shared[: end - 1] * others[count - end + 1 :]
        start = end - 2 - int(gains[::-1].argmax())
        if gains[start] > saved[end]:
            saved[end], cut[end] = gains[start], start
    groups: list[PrefixGroup] = []
    end = len(ordered)
    while end > 0:
        rows = tuple(ordered[cut[end] : end])
        groups.append(PrefixGroup(rows, _shared(rows)))
        end = cut[end]
    return groups[::-1]


def _shared(rows: Sequence[Row]) -> int:
    """Length of the common beginning; at least one token of every row stays out of it. 0 for one row."""
    if len(rows) < 2:
        return 0
    return min(_common(rows[0].tokens, rows[-1].tokens), min(len(row.tokens) for row in rows) - 1)


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    count = 0
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        count += 1
    return count
