"""How fast this machine reads memory, and how much of it this process holds.

Reading is measured by `memchr` looking for a byte that is not there: the C library reads with the widest loads there
are and ctypes lets threads run side by side. The best of several passes counts, as it is a limit.
"""

import ctypes
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

READ_BYTES = 1 << 28  # a thread: well beyond any cache
PASSES = 20
_STATUS = Path("/proc/self/status")


def read_bytes_s(threads: int) -> float:
    """Bytes a second that `threads` threads read together."""
    libc = ctypes.CDLL(None)
    libc.memchr.restype = ctypes.c_void_p
    libc.memchr.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)
    buffers = [np.ones(READ_BYTES, np.uint8) for _ in range(threads)]

    def read(buffer: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> None:
        libc.memchr(buffer.ctypes.data, 0, READ_BYTES)

    best_s = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(PASSES):
            began_s = time.perf_counter()
            list(pool.map(read, buffers))
            best_s = min(best_s, time.perf_counter() - began_s)
    return threads * READ_BYTES / best_s


def resident_bytes() -> int:
    """The resident set of this process. Linux only."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024
