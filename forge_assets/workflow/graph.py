"""Who comes before whom among the steps of one workflow."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from graphlib import CycleError, TopologicalSorter


class Graph:
    """An acyclic graph of step names. CycleError (graphlib) when the needs run in a circle."""

    def __init__(self, needs: Mapping[str, Sequence[str]]) -> None:
        self._needs = needs
        self.order = self._sorted()
        """Names, each after its needs; among equals in the order of the file."""

    @cached_property
    def ancestors(self) -> dict[str, frozenset[str]]:
        found: dict[str, frozenset[str]] = {}
        for name in self.order:
            needs = self._needs[name]
            found[name] = frozenset(needs).union(*(found[need] for need in needs))
        return {name: found[name] for name in self._needs}

    @cached_property
    def descendants(self) -> dict[str, frozenset[str]]:
        return {
            name: frozenset(other for other in self._needs if name in self.ancestors[other])
            for name in self._needs
        }

    def _sorted(self) -> tuple[str, ...]:
        sorter = TopologicalSorter(self._needs)
        sorter.prepare()
        position = {name: i for i, name in enumerate(self._needs)}
        order: list[str] = []
        while sorter.is_active():
            ready = sorted(sorter.get_ready(), key=position.__getitem__)
            order += ready
            sorter.done(*ready)
        return tuple(order)


def cycle_in(needs: Mapping[str, Sequence[str]]) -> list[str] | None:
    """The names along a circle, the first again at the end; None when there is none."""
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return None
