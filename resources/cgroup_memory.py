"""The memory limits of this process's control groups, which a container lives by."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_UNLIMITED = 1 << 60  # v1 writes "no limit" as a number near 2**63


@dataclass(frozen=True, slots=True)
class GroupMemory:
    """One control group's limit and what it uses less the page cache the kernel can drop. Bytes."""

    limit: int
    used: int


def group_memory(
    mount: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> list[GroupMemory]:
    """The groups with a limit, from the process's own up to the root. Empty without control groups.

    In a container the group's path often is that of the host: then the mount itself is the group.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return []
    found: list[GroupMemory] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root = mount if (mount / "cgroup.controllers").exists() else mount / "unified"
            found += _up(root, path, _read_v2)
        elif "memory" in controllers.split(","):
            found += _up(mount / "memory", path, _read_v1)
    return found


def _up(root: Path, path: str, read: Callable[[Path], GroupMemory | None]) -> list[GroupMemory]:
    own = root / path.lstrip("/")
    folder = own if own.is_dir() and ".." not in own.parts else root
    found = []
    while True:
        memory = read(folder)
        if memory is not None:
            found.append(memory)
        if folder == root:
            return found
        folder = folder.parent


def _read_v2(folder: Path) -> GroupMemory | None:
    return _read(folder, "memory.max", "memory.current", "")


def _read_v1(folder: Path) -> GroupMemory | None:
    return _read(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_")


def _read(folder: Path, limit_file: str, usage_file: str, prefix: str) -> GroupMemory | None:
    try:
        limit = int((folder / limit_file).read_text())
        usage = int((folder / usage_file).read_text())
        lines = (folder / "memory.stat").read_text().splitlines()
    except (OSError, ValueError):  # no such file, or the word "max"
        return None
    if limit >= _UNLIMITED:
        return None
    names = (f"{prefix}inactive_file", f"{prefix}active_file")
    cache = sum(int(line.split()[1]) for line in lines if line.split(" ")[0] in names)
    return GroupMemory(limit, max(0, usage - cache))
