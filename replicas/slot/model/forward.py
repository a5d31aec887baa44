"""Forward passes over the slab: many rows by one token each, or one row by many tokens.

Everything is bound to memory that stays: a binding for each range of rows is made once, and a pass rebinds only the
token ids, the mask and the logits, whose shapes change. Row i of a mask has as many ones as row i has tokens, on the
left. How far the zeros go, how many rows there are, which of them a sequence has and how a prompt is cut do not change
a bit of the result (tests/replicas/test_slot_forward.py), as long as chunks keep to `longest_chunk`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from replicas.errors import EngineFailed
from replicas.export import Export
from replicas.lora import LoraWeights
from replicas.slot.kv.slab import KvSlab
from replicas.slot.model.adapters import Adapters
from replicas.slot.model.graph import FIRST, HIDDEN
from replicas.slot.request.lane import BARE, Lane

MAX_VERIFIED = 16
"""The most tokens of one `verify`."""

LARGE_PASS = 2**18
"""Tokens of a chunk times tokens that it looks back on. Its attention takes tens of megabytes of the arena, which would
keep them: 80 MB with 4,114 tokens in `python -m bench.phi4mini`."""

# The smallest second-level cache that is reckoned with.
_CACHE_BYTES = 256 * 1024


def longest_chunk(head_size: int) -> int:
    """The most tokens that a prompt may be prefilled by at once without the cut showing in the last bits.

    Attention on the CPU takes queries in blocks of min(2 * head size, L2 bytes / (32 * head size)) (measured: 32 at
    head size 16, 128 at 64). A last block of a single query goes through another kernel, so a chunk of 129 tokens
    gives that token other bits than a chunk of 130 does. Chunks within one block, of two tokens or more, never do.
    """
    return max(4, min(2 * head_size, _CACHE_BYTES // (32 * head_size)))


@dataclass(frozen=True, slots=True)
class _Rows:
    """Neighbouring rows of the slab under an adapter: what one binding is for. `is_embedding` binds hidden states."""

    adapter: str | None
    first: int
    count: int
    is_embedding: bool = False


class _Bound(NamedTuple):
    session: ort.InferenceSession
    binding: ort.IOBinding


def _without_lora() -> ort.InferenceSession:
    raise EngineFailed("this model was opened without LoRA adapters")


class Forward:
    """One model and its KV slab. Not thread-safe. Logits are views that the next pass overwrites.

    Every pass takes the lane of its rows; rows of different lanes never share one. `slots` is the most rows of one
    pass: the slab may have more. Without `adapters` it is the bare model for good.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        export: Export,
        slab: KvSlab,
        slots: int,
        max_len: int,
        adapters: Adapters | None = None,
    ) -> None:
        self._session = session
        self._adapters = adapters or Adapters(_without_lora, "cpu")
        self._names = export.names
        self._vocab = export.vocab
        self._long_tokens = (export.rope_switch_tokens or 0) + 1
        self._slab = slab
        self._bound: dict[_Rows, _Bound] = {}
        self._count = np.arange(max_len, dtype=np.int64)
        self._ids = np.zeros(max(slots, max_len), np.int64)
        self._positions = np.zeros(max(slots, max_len), np.int64)
        self._mask = np.zeros(slots * max_len, np.int64)
        self._first = np.zeros(1, np.int64)
        self._logits = np.zeros((max(slots, MAX_VERIFIED), export.vocab), np.float32)
        self._shrinking = ort.RunOptions()
        self._shrinking.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self.can_embed = HIDDEN in {output.name for output in session.get_outputs()}

    def decode(self, row: int, tokens: Sequence[int], lengths: Sequence[int], lane: Lane = BARE) -> NDArray[np.float32]:
        """Append `tokens[i]` to row `row + i`, which holds `lengths[i]` tokens: logits [rows, vocab]."""
        rows = len(tokens)
        self._ids[:rows] = tokens
        self._positions[:rows] = lengths
        width = self._width(max(lengths) + 1, lane)
        mask = self._mask[: rows * width].reshape(rows, width)
        np.less_equal(self._count[:width], self._positions[:rows, None], out=mask)
        self._run(_Rows(lane.adapter, row, rows), 1, width, 1)
        return self._logits[:rows]

    def prefill(self, row: int, tokens: Sequence[int], start: int, lane: Lane = BARE) -> NDArray[np.float32]:
        """Append `tokens` to `row`, which holds `start` tokens: logits [1, vocab] of the last of them."""
        self._run(_Rows(lane.adapter, row, 1), len(tokens), self._fill(tokens, start, lane), 1)
        return self._logits[:1]

    def verify(self, row: int, tokens: Sequence[int], start: int, lane: Lane = BARE) -> NDArray[np.float32]:
        """Like `prefill`, at most MAX_VERIFIED tokens: logits [tokens, vocab] of each of them."""
        count = len(tokens)
        self._run(_Rows(lane.adapter, row, 1), count, self._fill(tokens, start, lane), count)
        return self._logits[:count]

    def embed(self, row: int, tokens: Sequence[int], start: int, lane: Lane = BARE) -> NDArray[np.float32]:
        """Like `prefill`: what goes into the LM head, [tokens, hidden], a copy. Only where `can_embed`."""
        rows = _Rows(lane.adapter, row, 1, is_embedding=True)
        binding = self._run(rows, len(tokens), self._fill(tokens, start, lane), 1)
        hidden: NDArray[np.float32] = binding.get_outputs()[-1].numpy()[0]
        return hidden

    @property
    def adapters(self) -> tuple[str, ...]:
        """The names of the adapters that a lane may have."""
        return self._adapters.names

    def open_adapters(self) -> None:
        """Get ready for adapters, which takes as long as opening the model did. From any thread; once is enough."""
        self._adapters.open()

    def add_adapter(self, name: str, weights: LoraWeights) -> None:
        """Make `name` an adapter for lanes. Raises InvalidRequest for a taken name."""
        self._adapters.add(name, weights)

    def remove_adapter(self, name: str) -> None:
        """Free the adapter; no pass in a lane of it may follow. Raises NotFound."""
        self._adapters.remove(name)
        self._bound = {rows: bound for rows, bound in self._bound.items() if rows.adapter != name}

    def close(self) -> None:
        """Free the sessions, the adapters and the slab. No pass may follow."""
        self._bound.clear()
        self._adapters.close()
        self._slab.close()
        del self._session

    def _width(self, tokens: int, lane: Lane) -> int:
        """How wide the mask over `tokens` is: zeros on its right put a call of few tokens into the long regime."""
        width = max(tokens, self._long_tokens) if lane.is_long else tokens
        assert width <= len(self._count)  # rows are bound by pointer: the call would write on in the next one
        return width

    def _fill(self, tokens: Sequence[int], start: int, lane: Lane) -> int:
        """Ids, positions and mask for `tokens` behind `start` others in one row; the width of the mask."""
        end = start + len(tokens)
        width = self._width(end, lane)
        self._ids[: len(tokens)] = tokens
        self._positions[: len(tokens)] = self._count[start:end]
        self._mask[:end] = 1
        self._mask[end:width] = 0
        return width

    def _run(self, rows: _Rows, tokens: int, width: int, positions: int) -> ort.IOBinding:
        """One call: `tokens` a row, under a mask `width` wide, with logits of the last `positions` of each row."""
        assert rows.count * positions <= len(self._logits)  # bound by pointer: the call would write on behind it
        bound = self._bound.get(rows)
        if bound is None:
            bound = self._bound[rows] = self._bind(rows)
        binding, names, shape = bound.binding, self._names, (rows.count, tokens)
        self._first[0] = -positions
        binding.bind_input(names.input_ids, "cpu", 0, np.int64, shape, self._ids.ctypes.data)
        binding.bind_input(names.attention_mask, "cpu", 0, np.int64, (rows.count, width), self._mask.ctypes.data)
        if names.position_ids is not None:
            binding.bind_input(names.position_ids, "cpu", 0, np.int64, shape, self._positions.ctypes.data)
        logits = (rows.count, positions, self._vocab)
        binding.bind_output(names.logits, "cpu", 0, np.float32, logits, self._logits.ctypes.data)
        if rows.is_embedding:  # bound anew, or onnxruntime keeps the last call's buffer and its shape
            binding.bind_output(HIDDEN, "cpu")
        # Each large chunk wants a little more than the one before: the arena would keep what all of them had.
        bound.session.run_with_iobinding(binding, self._shrinking if tokens * width >= LARGE_PASS else None)
        return binding

    def _bind(self, rows: _Rows) -> _Bound:
        if rows.adapter is None:
            session, binding = self._session, self._session.io_binding()
        else:
            session, binding = self._adapters.bind(rows.adapter)
        self._slab.bind(binding, rows.first, rows.count)
        binding.bind_input(FIRST, "cpu", 0, np.int64, (1,), self._first.ctypes.data)
        return _Bound(session, binding)
