"""How many prompt tokens a step may take beside the decoding.

While interactive answers run, the time of a step with a prompt in it is held to `stall_ratio` times that of decoding
alone: the chunk grows and shrinks with what the last ones took. Nobody is held up where nobody streams, where only
batch requests do, or where more prompts wait than answers run: there a chunk has its full size, and a crowd that
arrives together is read together, a full chunk for each prompt that waits beside a running answer.

Where even the smallest chunk takes too long (beside few streams, or deep in a long prompt) the ratio is held in the
mean: a chunk of even size is a debt, and decoding pays it off before the next one. A prompt that fits into one full
chunk is such a debt as a whole, as a small chunk costs nearly as much as a large one; one of a batch request is cut.
"""

from replicas.slot.step.chunk_cost import ChunkCost

LEAST = 2
"""Tokens of the smallest chunk. One would take another kernel; measured beside a decode step of one row, 12 ms, and of
four, 18 ms: 2 tokens take 16 ms, 4 take 18, 8 take 25."""
EVEN = 16
"""Tokens of a chunk where the ratio is held in the mean: twice as long as the smallest, for eight times as much."""
_DECODE_WEIGHT = 0.3
_GROWTH = 1.5
_PROBE_EVERY = 16  # chunks: so often the smallest one is tried
_PROBE_GROWTH = 1.25  # a disturbance of one does not count for more
_MOST_CHUNKS = 16
"""Full chunks of one step, for a crowd."""


class Pace:
    """Sizes chunks of at most `full` tokens."""

    def __init__(self, full: int, stall_ratio: float) -> None:
        self._full = full
        self._share = stall_ratio - 1.0
        self._cost = ChunkCost()
        self._decode_s = 0.0
        self._debt_s = 0.0  # of chunks that took more than their step's share
        self._least_s: float | None = None  # what the smallest chunk takes
        self._since_probe = 0
        self._is_held = False  # the chunk of this step is held to a size
        self._is_even = False  # that of a chunk in the mean
        self._last: int | None = None  # the size of the last chunk that was

    def decoded(self, seconds: float) -> None:
        """What decoding all active rows took."""
        self._decode_s += (seconds - self._decode_s) * (_DECODE_WEIGHT if self._decode_s else 1.0)
        self._debt_s = max(0.0, self._debt_s - self._share * seconds)

    def began(self) -> None:
        """Another prompt is read from now on: what the last one's chunks took says little of its chunks."""
        self._since_probe = _PROBE_EVERY

    def prefilled(self, tokens: int, seconds: float, *, is_whole: bool = False) -> None:
        """What a chunk took; `is_whole`: it was a prompt that is not cut."""
        self._cost.took(tokens, seconds)
        is_cut = self._is_held and not is_whole
        self._last = tokens if is_cut and not self._is_even else None
        is_too_long = tokens == LEAST and seconds > self._allowed_s
        if self._is_held and (is_whole or self._is_even or is_too_long):
            self._debt_s += seconds
        self._since_probe += 1
        if is_cut and tokens == LEAST:
            self._probed(seconds)

    def is_short(self, tokens: int) -> bool:
        """A prompt of so many tokens need not be cut."""
        return tokens <= self._full

    def most(self, tokens: int, budget: int, *, may_borrow: bool) -> int:
        """Of a short prompt's `tokens`, how many may be read now: all, or `budget` of them."""
        return budget if self._is_held and not may_borrow else tokens

    def budget(self, *, streaming: int, prompts: int) -> int:
        """Prompt tokens for this step: `streaming` interactive answers run, `prompts` wait or are being read.

        None of them, 0, while a debt is paid off.
        """
        self._is_held, self._is_even = 0 < streaming >= prompts, False
        if not self._is_held:
            return self._full * (min(_MOST_CHUNKS, prompts // streaming) if streaming else _MOST_CHUNKS)
        if self._debt_s > 0:
            return 0
        if self._least_s is None or self._since_probe >= _PROBE_EVERY:
            return LEAST
        if self._least_s > self._allowed_s:
            self._is_even = True
            return min(self._full, EVEN)
        # A chunk of n tokens takes about as long as decoding n rows: a careful guess where the last ones tell nothing.
        most = streaming if self._last is None else _GROWTH * self._last + 1
        return min(self._full, max(LEAST, int(min(most, self._cost.tokens_in(self._allowed_s)))))

    @property
    def _allowed_s(self) -> float:
        """What a chunk may take beside one step's decoding."""
        return self._share * self._decode_s

    def _probed(self, seconds: float) -> None:
        least_s = seconds if self._least_s is None else _PROBE_GROWTH * self._least_s
        self._least_s, self._since_probe = min(seconds, least_s), 0
