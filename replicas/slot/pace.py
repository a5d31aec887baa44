"""How many prompt tokens a step may take beside the decoding.

While interactive answers run, the time of a step with a prompt in it is held to `stall_ratio` times that of decoding
alone: the chunk grows and shrinks with what the last ones took. Nobody is held up where nobody streams, where only
batch requests do, or where more prompts wait than answers run (a crowd that arrives together is best served at once):
there a chunk has its full size.
"""

LEAST = 4
"""Tokens of the smallest chunk: below it the fixed cost of a call is all there is (measured: 2 tokens 16 ms, 4 18)."""
_WEIGHT = 0.2


class Pace:
    """Sizes chunks of at most `full` tokens."""

    def __init__(self, full: int, stall_ratio: float) -> None:
        self._full = full
        self._share = stall_ratio - 1.0
        self._size = float(full)
        self._decode_s = 0.0

    def decoded(self, seconds: float) -> None:
        """What decoding all active rows took."""
        self._decode_s += (seconds - self._decode_s) * (_WEIGHT if self._decode_s else 1.0)

    def prefilled(self, tokens: int, seconds: float) -> None:
        """What a chunk took."""
        if self._decode_s > 0 and seconds > 0:
            # A chunk costs a constant and something per token: the root keeps the correction from swinging.
            wanted = tokens * (self._share * self._decode_s / seconds) ** 0.5
            self._size = min(float(self._full), max(float(LEAST), wanted))

    def budget(self, *, streaming: int, prompts: int) -> int:
        """Prompt tokens for this step: `streaming` interactive answers run, `prompts` wait or are being read."""
        if streaming == 0 or prompts > streaming:
            return self._full
        return min(self._full, int(self._size))
