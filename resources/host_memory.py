"""The memory of this machine and of this process."""

from dataclasses import dataclass

import psutil

from resources.cgroup_memory import group_memory


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes; those of the tightest control group where its limit is below the machine's."""

    total: int
    available: int

    @property
    def used_share(self) -> float:
        return 1 - self.available / self.total


def memory() -> Memory:
    """The machine's memory, or what its control groups leave of it."""
    machine = psutil.virtual_memory()
    total, available = machine.total, machine.available
    for group in group_memory():
        total = min(total, group.limit)
        available = min(available, max(0, group.limit - group.used))
    return Memory(total, available)


def own_memory() -> int:
    """Bytes that this process has in memory now."""
    return int(psutil.Process().memory_info().rss)
