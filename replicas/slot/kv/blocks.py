"""Where kept KV lies: blocks of BLOCK tokens, copied out of rows and into rows.

One array `[blocks, kv_heads, BLOCK, head_size]` for each array of the slab, committed by the system only as blocks
fill. Copying is cheap beside computing (the bundled model: 46 KB a token, some milliseconds for a thousand tokens,
against more than a second), and a copy needs no count of its users.
"""

from collections.abc import Sequence

import numpy as np

from replicas.slot.kv.slab import KvSlab, committed_lazily

BLOCK = 32
"""Tokens of a block. Shorter beginnings are not kept: computing them takes as long as two decode steps."""


class BlockPool:
    """`capacity` blocks beside a slab in host memory."""

    def __init__(self, slab: KvSlab, capacity: int) -> None:
        self.capacity = capacity
        self.size_bytes = self.block_bytes(slab)
        self._rows = slab.arrays
        self._pools = []
        for array in self._rows:
            _, heads, _, size = array.shape
            self._pools.append(committed_lazily((capacity, heads, BLOCK, size), array.dtype))

    @staticmethod
    def block_bytes(slab: KvSlab) -> int:
        """Memory of one block."""
        return slab.token_bytes * BLOCK

    def store(self, blocks: Sequence[int], row: int, first: int) -> None:
        """Copy tokens `first * BLOCK ...` of `row` into `blocks`."""
        start, stop = first * BLOCK, (first + len(blocks)) * BLOCK
        ids = list(blocks)
        for array, pool in zip(self._rows, self._pools, strict=True):
            heads, size = array.shape[1], array.shape[3]
            pool[ids] = array[row, :, start:stop].reshape(heads, len(ids), BLOCK, size).swapaxes(0, 1)

    def load(self, blocks: Sequence[int], row: int) -> None:
        """Copy `blocks`, in order, to the beginning of `row`."""
        for array, pool in zip(self._rows, self._pools, strict=True):
            for place, block in enumerate(blocks):
                array[row, :, place * BLOCK : (place + 1) * BLOCK] = pool[block]

    def read(self, block: int) -> bytes:
        """The content of a block: every layer's keys and values, `[kv_heads, BLOCK, head_size]` each."""
        return b"".join(pool[block].tobytes() for pool in self._pools)

    def write(self, block: int, content: bytes) -> None:
        """Fill a block with what `read` gave."""
        start = 0
        for pool in self._pools:
            target = pool[block]
            values = np.frombuffer(content, pool.dtype, target.size, start)
            target[...] = values.reshape(target.shape)
            start += target.nbytes
