"""Guesses of what comes next, by looking up what followed the same tokens earlier in the text.

It costs a dictionary entry a token and no second model. It pays where an answer repeats its prompt (tool results,
code, summaries), so each request keeps count: while too few of its guesses come true, only every so often one is made.
"""

NGRAM = 3
"""Tokens that must agree. Two agree by chance too often."""
LEAST, MOST = 2, 8
"""Tokens of a guess: on the bundled model a call with 9 tokens takes as long as 2.2 with one."""
_GOOD_SHARE = 0.4
"""Of a guess that must come true for it to pay; with a call of 9 tokens at 2.2 decode steps it is about 1.2 of 8."""
_RETRY_AFTER = 16
_WEIGHT = 0.25


class Lookup:
    """Where each run of NGRAM tokens of one text was last followed by something, and how good its guesses were."""

    def __init__(self) -> None:
        self._after: dict[tuple[int, ...], int] = {}
        self._indexed = NGRAM
        self._share = 1.0
        self._skipped = 0

    def guess(self, tokens: list[int], most: int) -> tuple[int, ...]:
        """At most `most` tokens that may follow `tokens`; empty if nothing is known or it does not pay."""
        for end in range(self._indexed, len(tokens)):
            self._after[tuple(tokens[end - NGRAM : end])] = end
        self._indexed = max(NGRAM, len(tokens))
        place = self._after.get(tuple(tokens[-NGRAM:]))
        if place is None or most < LEAST:
            return ()
        if self._share < _GOOD_SHARE and self._skipped < _RETRY_AFTER:
            self._skipped += 1
            return ()
        self._skipped = 0
        found = tuple(tokens[place : place + most])
        return found if len(found) >= LEAST else ()

    def learn(self, guessed: int, accepted: int) -> None:
        """How many of a guess came true."""
        self._share += (accepted / guessed - self._share) * _WEIGHT
