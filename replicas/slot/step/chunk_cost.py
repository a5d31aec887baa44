"""What a chunk of a prompt takes: a line through the last ones.

A chunk takes a constant and so much per token; both grow with what is in the row already, so older chunks count for
less and less. Where all had about the same size their slope tells nothing, and a guess stands in for it.
"""

_WEIGHT = 0.3
_PRIOR = 0.5
"""Share of a chunk's time that is taken to grow with its tokens until chunks of several sizes have told better."""


class ChunkCost:
    """Weighted means over the last chunks: tokens, seconds, their squares and products."""

    def __init__(self) -> None:
        self._tokens = self._seconds = self._squares = self._products = 0.0

    def took(self, tokens: int, seconds: float) -> None:
        """What one chunk took."""
        weight = _WEIGHT if self._tokens else 1.0
        self._tokens += (tokens - self._tokens) * weight
        self._seconds += (seconds - self._seconds) * weight
        self._squares += (tokens * tokens - self._squares) * weight
        self._products += (tokens * seconds - self._products) * weight

    def tokens_in(self, seconds: float) -> float:
        """Of how many tokens a chunk takes `seconds`; 0 where nothing is known."""
        if self._tokens == 0 or self._seconds <= 0:
            return 0.0
        guess = _PRIOR * self._seconds / self._tokens
        trust = (0.1 * self._tokens) ** 2
        variance = max(0.0, self._squares - self._tokens * self._tokens)
        slope = (self._products - self._tokens * self._seconds + trust * guess) / (variance + trust)
        more = (seconds - self._seconds) / max(slope, 0.2 * guess)
        return self._tokens + (more if more <= 0 else max(1.0, more))
