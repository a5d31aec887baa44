"""Rows of KV as the loop's memory: moved in place, and copied out for requests that give way."""

import weakref

import numpy as np
from numpy.typing import NDArray

from replicas.slot.kv.slab import KvSlab
from replicas.slot.request.saved import Saved


class RowCopy:
    """The KV of a row: `[kv_heads, tokens, head_size]` for each array of the slab."""

    def __init__(self, arrays: list[NDArray[np.float32]]) -> None:
        self.arrays = arrays
        self.size_bytes = sum(array.nbytes for array in arrays)


class SlabMemory:
    """The rows of `slab`. Copies of at most `limit_bytes` live at a time; none are made in a device's memory."""

    def __init__(self, slab: KvSlab, limit_bytes: int) -> None:
        self._slab = slab
        self._limit_bytes = limit_bytes
        self.saved_bytes = 0  # of the copies that are still wanted

    def move(self, source: int, target: int, tokens: int) -> None:
        self._slab.move(source, target, tokens)

    def save(self, row: int, tokens: int) -> Saved | None:
        needed = tokens * self._slab.token_bytes
        if not self._slab.arrays or self.saved_bytes + needed > self._limit_bytes:
            return None
        copy = RowCopy([array[row, :, :tokens].copy() for array in self._slab.arrays])
        self.saved_bytes += copy.size_bytes
        weakref.finalize(copy, self._freed, copy.size_bytes).atexit = False
        return Saved(tokens, copy)

    def restore(self, row: int, saved: Saved) -> None:
        assert isinstance(saved.content, RowCopy)
        for array, kept in zip(self._slab.arrays, saved.content.arrays, strict=True):
            array[row, :, : saved.tokens] = kept

    def _freed(self, size_bytes: int) -> None:
        self.saved_bytes -= size_bytes
