"""What this process may use: the system's figures and its container's limits, whichever is less."""

import os
from pathlib import Path

import psutil
import pytest

from replicas.host import Host

GIB = 1 << 30


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The files of a machine without any limits."""
    write(
        tmp_path, {"proc/self/cgroup": "0::/", "sys/fs/cgroup/memory.max": "max", "sys/fs/cgroup/cpu.max": "max 100000"}
    )
    return tmp_path


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")


def test_without_limits_the_systems_figures_count(root: Path) -> None:
    host = Host(root)
    assert host.total_bytes() == psutil.virtual_memory().total
    assert 0 < host.free_bytes() <= host.total_bytes()
    assert host.usable_cores() == len(os.sched_getaffinity(0))


def test_a_container_of_version_2_has_its_limit_less_what_is_used_and_not_page_cache(root: Path) -> None:
    group = "sys/fs/cgroup/"
    write(root, {group + "memory.max": str(GIB), group + "memory.current": str(GIB // 2)})
    write(root, {group + "memory.stat": f"anon 1\ninactive_file {GIB // 4}\nfile 7"})
    host = Host(root)
    assert (host.total_bytes(), host.free_bytes()) == (GIB, GIB - GIB // 2 + GIB // 4)


def test_a_container_of_version_1_counts_and_an_unlimited_one_does_not(root: Path) -> None:
    write(root, {"proc/self/cgroup": "7:cpu,cpuacct:/\n4:memory:/docker/abc"})
    top, own = "sys/fs/cgroup/memory/", "sys/fs/cgroup/memory/docker/abc/"
    write(root, {top + "memory.limit_in_bytes": str(2**63 - 4096), top + "memory.usage_in_bytes": "5"})
    write(root, {own + "memory.limit_in_bytes": str(GIB), own + "memory.usage_in_bytes": "1024"})
    assert Host(root).free_bytes() == GIB - 1024


def test_the_tightest_of_nested_limits_holds(root: Path) -> None:
    write(root, {"proc/self/cgroup": "0::/slice/pod/box"})
    for level, size in (("slice", 4 * GIB), ("slice/pod", GIB // 8), ("slice/pod/box", 2 * GIB)):
        write(root, {f"sys/fs/cgroup/{level}/memory.max": str(size), f"sys/fs/cgroup/{level}/memory.current": "0"})
    assert Host(root).total_bytes() == GIB // 8


def test_more_used_than_allowed_leaves_nothing(root: Path) -> None:
    write(root, {"sys/fs/cgroup/memory.max": "1000", "sys/fs/cgroup/memory.current": "5000"})
    assert Host(root).free_bytes() == 0


@pytest.mark.parametrize(("quota", "cores"), [("150000 100000", 1), ("50000 100000", 1), ("99900000 100000", None)])
def test_a_cpu_quota_counts_in_whole_cores_and_never_less_than_one(root: Path, quota: str, cores: int | None) -> None:
    write(root, {"sys/fs/cgroup/cpu.max": quota})
    assert Host(root).usable_cores() == (cores or len(os.sched_getaffinity(0)))


def test_a_quota_of_version_1_counts(root: Path) -> None:
    write(root, {"proc/self/cgroup": "3:cpu:/", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000"})
    write(root, {"sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"})
    assert Host(root).usable_cores() == 1


def test_two_threads_of_a_core_are_one_physical_core(root: Path) -> None:
    for core in os.sched_getaffinity(0):
        write(root, {f"sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list": "0-1"})
    assert Host(root).physical_cores() == 1


def test_the_processor_is_named_with_its_instruction_sets(root: Path) -> None:
    write(root, {"proc/cpuinfo": "processor\t: 0\nmodel name\t: Fast One\nflags\t\t: avx2 avx512_vnni\n"})
    host = Host(root)
    assert (host.processor(), host.processor_flags()) == ("Fast One", frozenset({"avx2", "avx512_vnni"}))
    assert Host(root / "nowhere").processor() == "unknown"
