from pathlib import Path

import psutil
import pytest

from resources import host_memory
from resources.cgroup_memory import GroupMemory, group_memory


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def v2(folder: Path, limit: str, used: int, cache: int) -> None:
    stat = f"anon 5\ninactive_file {cache}\nactive_file 1\nfile {cache + 1}\n"
    write(folder, memory__max=f"{limit}\n", memory__current=f"{used}\n", memory__stat=stat)


def membership(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "self_cgroup"
    path.write_text(text)
    return path


def test_v2_group_and_its_parents(tmp_path: Path) -> None:
    mount = tmp_path / "cgroup"
    write(mount, cgroup__controllers="cpu memory\n")
    v2(mount / "pod", "8000", 5000, 999)
    v2(mount / "pod/job", "max", 3000, 0)
    v2(mount / "pod/job/step", "6000", 2000, 499)
    own = membership(tmp_path, "0::/pod/job/step\n")
    assert group_memory(mount, own) == [GroupMemory(6000, 1500), GroupMemory(8000, 4000)]


def test_v2_in_a_container_that_shows_the_hosts_path(tmp_path: Path) -> None:
    mount = tmp_path / "cgroup"
    write(mount, cgroup__controllers="memory\n")
    v2(mount, "2000", 700, 99)
    for path in ("/docker/0123", "/../other", "/"):
        own = membership(tmp_path, f"0::{path}\n")
        assert group_memory(mount, own) == [GroupMemory(2000, 600)]


def test_v1_beside_an_empty_v2(tmp_path: Path) -> None:
    mount = tmp_path / "cgroup"
    write(mount / "unified", cgroup__controllers="")
    unlimited = str(2**63 - 4096)
    stat = "inactive_file 1\ntotal_inactive_file 100\ntotal_active_file 50\n"
    write(
        mount / "memory/job",
        memory__limit_in_bytes="4000",
        memory__usage_in_bytes="1000",
        memory__stat=stat,
    )
    write(
        mount / "memory",
        memory__limit_in_bytes=unlimited,
        memory__usage_in_bytes="9",
        memory__stat=stat,
    )
    own = membership(tmp_path, "9:name=systemd:/\n4:cpu,memory:/job\n0::/\n")
    assert group_memory(mount, own) == [GroupMemory(4000, 850)]


def test_without_control_groups(tmp_path: Path) -> None:
    assert group_memory(tmp_path, tmp_path / "gone") == []
    assert group_memory(tmp_path, membership(tmp_path, "0::/\n")) == []


def test_the_tightest_limit_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = psutil.virtual_memory()
    groups = [GroupMemory(2 * machine.total, 0), GroupMemory(10_000_000, 4_000_000)]
    monkeypatch.setattr(host_memory, "group_memory", lambda: groups)
    assert host_memory.memory() == host_memory.Memory(10_000_000, 6_000_000)
    monkeypatch.setattr(host_memory, "group_memory", lambda: groups[:1])
    memory = host_memory.memory()
    assert memory.total == machine.total
    assert 0 < memory.available <= machine.total
