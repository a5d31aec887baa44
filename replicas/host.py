"""What this process may use of the machine: cores and memory, with the limits of its container.

The system's own figures are the whole machine's. A container's stand in its control groups, version 2 (`memory.max`,
`cpu.max`) or version 1 (`memory.limit_in_bytes`, `cpu.cfs_quota_us`), and every level above counts as well: the least
holds. What lies in the page cache of a group is given up under pressure, so it counts as free. Systems other than
Linux have no such files and keep the system's figures.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

_UNLIMITED_BYTES = 1 << 60  # version 1 writes about 2^63 for no limit


@dataclass(frozen=True, slots=True)
class Host:
    """A machine as the files under `root` describe it: another root is another host."""

    root: Path = Path("/")

    def usable_cores(self) -> int:
        """Cores that threads of this process can keep busy: its affinity, and whole cores of its CPU quota."""
        allowed = len(self._allowed())
        return max(1, min([allowed, *(int(quota) for quota in self._quotas())]))

    def physical_cores(self) -> int:
        """The usable cores that are no second thread of another one."""
        siblings = {self._siblings(core) for core in self._allowed()}
        return max(1, min(len(siblings), self.usable_cores()))

    def total_bytes(self) -> int:
        """Memory that this process could have if it were alone."""
        return min([psutil.virtual_memory().total, *(limit for limit, _ in self._memory())])

    def free_bytes(self) -> int:
        """Memory that this process can still take without driving anything out."""
        free = [psutil.virtual_memory().available, *(limit - used for limit, used in self._memory())]
        return max(0, min(free))

    def processor(self) -> str:
        """The processor's name."""
        return self._cpuinfo("model name") or "unknown"

    def processor_flags(self) -> frozenset[str]:
        """Instruction sets, in the kernel's spelling: avx512_vnni, amx_int8, asimddp."""
        return frozenset((self._cpuinfo("flags") or self._cpuinfo("Features")).split())

    def _allowed(self) -> frozenset[int]:
        if hasattr(os, "sched_getaffinity"):
            return frozenset(os.sched_getaffinity(0))
        return frozenset(range(os.cpu_count() or 1))

    def _siblings(self, core: int) -> str:
        return _text(self.root / f"sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list") or str(core)

    def _cpuinfo(self, key: str) -> str:
        for line in _text(self.root / "proc/cpuinfo").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == key:
                return value.strip()
        return ""

    def _memory(self) -> Iterator[tuple[int, int]]:
        """(limit, used) of every level that has a limit."""
        for folder in self._groups("memory"):
            limit = _number(folder / "memory.max") or _number(folder / "memory.limit_in_bytes")
            if limit is None or limit >= _UNLIMITED_BYTES:
                continue
            used = _number(folder / "memory.current") or _number(folder / "memory.usage_in_bytes") or 0
            statistics = dict(_pairs(folder / "memory.stat"))
            cached = statistics.get("total_inactive_file", statistics.get("inactive_file", 0))
            yield limit, max(0, used - cached)

    def _quotas(self) -> Iterator[float]:
        """Cores of every level that has a quota."""
        for folder in self._groups("cpu"):
            parts = _text(folder / "cpu.max").split()
            if len(parts) == 2 and parts[0].isdigit():
                yield int(parts[0]) / int(parts[1])
            quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
            if quota and period:
                yield quota / period

    def _groups(self, controller: str) -> Iterator[Path]:
        """The folders of this process's control groups, its own first, that are visible from where it is."""
        mounts = self.root / "sys/fs/cgroup"
        for line in _text(self.root / "proc/self/cgroup").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and controller not in controllers.split(","):
                continue
            mount = mounts / controller if controllers else mounts
            inner = Path(path.lstrip("/"))
            # A container sees its own group as the root of the mount, under whatever path the host knows it.
            levels = [mount / inner, *(mount / parent for parent in inner.parents)] if path != "/" else [mount]
            yield from (level for level in levels if level.is_dir())


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8", errors="replace")
    except OSError:
        return ""


def _number(file: Path) -> int | None:
    """The number in `file`; None if there is none (no file, "max", -1)."""
    text = _text(file).strip()
    return int(text) if text.isdigit() else None


def _pairs(file: Path) -> Iterator[tuple[str, int]]:
    for line in _text(file).splitlines():
        key, _, value = line.partition(" ")
        if value.isdigit():
            yield key, int(value)
