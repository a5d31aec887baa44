"""Cores, instruction sets, memory, shared memory, disk: what this machine, or its container, gives."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from cluster.doctor.finding import Finding, State, found, noted
from replicas.host import Host

_AREA = "machine"
_GIB = 1 << 30
# Ray's processes take about 1.5 GB before the first model is loaded, the bundled model 0.3 GB.
_LEAST_MEMORY_BYTES, _GOOD_MEMORY_BYTES = _GIB, 3 * _GIB
_LEAST_DISK_BYTES = _GIB
_RAY_FULL_RATIO = 0.95  # Ray refuses to store objects on a fuller disk
# In the kernel's spelling, best first: what makes matrix products of 8-bit integers fast.
_INTEGER_SETS = ("amx_int8", "avx512_vnni", "avx_vnni", "i8mm", "asimddp")


def cores(host: Host) -> Iterator[Finding]:
    """Cores that may be used, of those there are."""
    usable, physical, all_ = host.usable_cores(), host.physical_cores(), os.cpu_count() or 1
    limit = f" of {all_}; the rest is withheld by a limit or an affinity" if usable < all_ else ""
    yield found(_AREA, "processor", host.processor())
    yield found(_AREA, "cores", f"{usable} usable{limit}, {physical} physical")


def instructions(host: Host) -> Iterator[Finding]:
    """Instruction sets that decide how fast INT4 models run."""
    flags = host.processor_flags()
    present = [name for name in _INTEGER_SETS if name in flags]
    words = ", ".join(present) or "no integer dot products"
    slow = "" if present else "INT4 models run several times slower here; prefer a newer processor, or a GPU"
    yield noted(_AREA, "instruction sets", words, slow)


def memory(host: Host) -> Iterator[Finding]:
    """Free memory, with the limit of a container."""
    free, total = host.free_bytes(), host.total_bytes()
    is_limited = total < psutil.virtual_memory().total
    words = f"{free / _GIB:.1f} GiB free of {total / _GIB:.1f}" + (" (a limit of its container)" if is_limited else "")
    fix = "end other programs, or give the container more"
    if free < _LEAST_MEMORY_BYTES:
        yield found(_AREA, "memory", words, fix)
    else:
        yield noted(_AREA, "memory", words, fix if free < _GOOD_MEMORY_BYTES else "")


def shared_memory(needed_bytes: int, folder: Path = Path("/dev/shm")) -> Iterator[Finding]:  # noqa: S108 - where Linux has it
    """Where Ray keeps objects. Smaller than it asks for, Ray falls back to files on disk."""
    if not folder.is_dir():
        return
    free = psutil.disk_usage(str(folder)).free
    words = f"{free / _GIB:.2f} GiB free, Ray is given {needed_bytes / _GIB:.2f}"
    fix = "start the container with --shm-size=1g (in Kubernetes: an emptyDir of medium Memory on /dev/shm)"
    yield found(_AREA, "/dev/shm", words, fix if free < needed_bytes else "")  # noqa: S108 - likewise


def disk(home: Path) -> Iterator[Finding]:
    """Room for models and journals, and on the disk that Ray spills to."""
    usage = psutil.disk_usage(str(_existing(home)))
    fix = f"free some room on the disk of {home}, or set SHOAL_HOME to a folder on another"
    words = f"{usage.free / _GIB:.1f} GiB free for {home}"
    yield found(_AREA, "disk", words, fix if usage.free < _LEAST_DISK_BYTES else "")
    if not os.access(_existing(home), os.W_OK):
        yield found(_AREA, "home", f"{home} cannot be written", "make it yours, or set SHOAL_HOME to another folder")
    temporary = psutil.disk_usage(tempfile.gettempdir())
    if 1 - temporary.free / temporary.total > _RAY_FULL_RATIO:
        words = f"the disk of {tempfile.gettempdir()} is over {_RAY_FULL_RATIO:.0%} full; Ray stores nothing there then"
        yield found(_AREA, "disk of Ray", words, "free some room there")


def gpu(providers: frozenset[str], nodes: Path = Path("/dev")) -> Iterator[Finding]:
    """A GPU that this build of onnxruntime leaves idle."""
    if (nodes / "nvidiactl").exists() and "CUDAExecutionProvider" not in providers:
        fix = "pip uninstall onnxruntime onnxruntime-genai; pip install 'shoal[gpu]'"
        yield Finding(_AREA, "GPU", State.NOTE, "an NVIDIA GPU is here, but this onnxruntime has no CUDA", fix)


def _existing(folder: Path) -> Path:
    """`folder`, or the nearest one above it that is there."""
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if place.is_dir())
