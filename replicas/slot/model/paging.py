"""Gives back the pages of a model's file that opening a session has read and running it never reads again.

onnxruntime maps the weights, packs most of them anew for its kernels and leaves the maps of what it has copied. On
Linux such a page counts to the process until another one needs its memory; Phi-4-mini in INT4 carries 460 MB of
scales that way. A page that is wanted after all is read from the file again. On other systems nothing is done.
"""

import ctypes
import sys
from collections.abc import Iterator
from pathlib import Path

_SMAPS = Path("/proc/self/smaps")
_DONTNEED = 4  # MADV_DONTNEED of linux/mman.h


def release_pages(file: Path) -> None:
    """Drop the resident pages of `file`, wherever it is mapped and nothing was written over it. Never raises."""
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    for begin, end in list(_unwritten(file)):
        libc.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), _DONTNEED)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)  # glibc keeps what the graph took while it was read


def _unwritten(file: Path) -> Iterator[tuple[int, int]]:
    """Address ranges that map `file` and hold no page of their own: dropping one that was written would lose it."""
    try:
        lines = _SMAPS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    begin = end = 0
    name = str(file.resolve())
    for line in lines:
        head, _, rest = line.partition(" ")
        if "-" in head and not head.endswith(":"):
            begin, end = (int(address, 16) for address in head.split("-")) if rest.endswith(name) else (0, 0)
        elif end and line.split() == ["Anonymous:", "0", "kB"]:
            yield begin, end
