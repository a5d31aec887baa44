"""Cores and memory of a gateway: all its processes together, however many it has.

Linux only: a process may be kept on one core, and the kernel says how much of shared memory is whose.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Cores:
    """One for the gateways, another one for the upstream and the callers; on a machine with one core they share it."""

    gateways: int
    others: int


def cores() -> Cores:
    """The last and the first that this process may use."""
    usable = sorted(os.sched_getaffinity(0))
    return Cores(usable[-1], usable[0])


@contextmanager
def kept_on(core: int) -> Iterator[None]:
    """What is started within the block stays on `core`."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def family(pid: int) -> list[psutil.Process]:
    """The process `pid` and all that it started. Raises psutil.NoSuchProcess."""
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def cpu_s(pid: int) -> float:
    """Seconds of a core that the family of `pid` has used since it was started, those of ended members not counted."""
    total = 0.0
    for one in family(pid):
        try:
            used = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += used.user + used.system
    return total


def memory_mb(pid: int) -> float:
    """Memory of the family of `pid`; what several share counts once (PSS)."""
    total = 0
    for one in family(pid):
        try:
            total += one.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total / MB
