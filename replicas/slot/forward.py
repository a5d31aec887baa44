"""Forward passes over the slab: many rows by one token each, or one row by many tokens.

Everything is bound to memory that stays: a binding for each range of rows is made once, and a pass rebinds only the
token ids and the mask, whose shapes change. Row i of a mask has as many ones as row i has tokens, on the left. How
far the zeros go, how many rows there are, which of them a sequence has and how a prompt is cut do not change a bit of
the result (tests/replicas/test_slot_forward.py), as long as chunks keep to `longest_chunk`.
"""

from collections.abc import Sequence

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from replicas.export import Export
from replicas.slot.slab import KvSlab

# The smallest second-level cache that is reckoned with.
_CACHE_BYTES = 256 * 1024


def longest_chunk(head_size: int) -> int:
    """The most tokens that a prompt may be prefilled by at once without the cut showing in the last bits.

    Attention on the CPU takes queries in blocks of min(2 * head size, L2 bytes / (32 * head size)) (measured: 32 at
    head size 16, 128 at 64). A last block of a single query goes through another kernel, so a chunk of 129 tokens
    gives that token other bits than a chunk of 130 does. Chunks within one block, of two tokens or more, never do.
    """
    return max(4, min(2 * head_size, _CACHE_BYTES // (32 * head_size)))


class Forward:
    """One session and its KV slab. Not thread-safe. Logits are views that the next pass overwrites."""

    def __init__(self, session: ort.InferenceSession, export: Export, slab: KvSlab, slots: int, max_len: int) -> None:
        self._session = session
        self._names = export.names
        self._slab = slab
        self._bindings: dict[tuple[int, int], ort.IOBinding] = {}
        self._count = np.arange(max_len, dtype=np.int64)
        self._ids = np.zeros(max(slots, max_len), np.int64)
        self._positions = np.zeros(max(slots, max_len), np.int64)
        self._mask = np.zeros(slots * max_len, np.int64)
        self._logits = np.zeros((slots, 1, export.vocab), np.float32)

    def decode(self, tokens: Sequence[int], lengths: Sequence[int]) -> NDArray[np.float32]:
        """Append `tokens[i]` to row i, which holds `lengths[i]` tokens: logits [rows, vocab]."""
        rows = len(tokens)
        self._ids[:rows] = tokens
        self._positions[:rows] = lengths
        held = self._positions[:rows, None]
        width = max(lengths) + 1
        mask = self._mask[: rows * width].reshape(rows, width)
        np.less_equal(self._count[:width], held, out=mask)
        return self._run(0, (rows, 1), width)

    def prefill(self, row: int, tokens: Sequence[int], start: int) -> NDArray[np.float32]:
        """Append `tokens` to `row`, which holds `start` tokens: logits [1, vocab] of the last of them."""
        count = len(tokens)
        self._ids[:count] = tokens
        self._positions[:count] = self._count[start : start + count]
        self._mask[: start + count] = 1
        return self._run(row, (1, count), start + count)

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copy what row `source` holds, `tokens` long, over row `target`."""
        self._slab.move(source, target, tokens)

    def close(self) -> None:
        """Free the session and the slab. No pass may follow."""
        self._bindings.clear()
        self._slab.close()
        del self._session

    def _run(self, row: int, shape: tuple[int, int], width: int) -> NDArray[np.float32]:
        rows = shape[0]
        binding = self._bindings.get((row, rows))
        if binding is None:
            binding = self._bindings[row, rows] = self._bind(row, rows)
        names = self._names
        binding.bind_input(names.input_ids, "cpu", 0, np.int64, shape, self._ids.ctypes.data)
        binding.bind_input(names.attention_mask, "cpu", 0, np.int64, (rows, width), self._mask.ctypes.data)
        if names.position_ids is not None:
            binding.bind_input(names.position_ids, "cpu", 0, np.int64, shape, self._positions.ctypes.data)
        self._session.run_with_iobinding(binding)
        return self._logits[:rows, 0]

    def _bind(self, row: int, rows: int) -> ort.IOBinding:
        binding = self._session.io_binding()
        self._slab.bind(binding, row, rows)
        shape = (rows, *self._logits.shape[1:])
        binding.bind_output(self._names.logits, "cpu", 0, np.float32, shape, self._logits.ctypes.data)
        return binding
