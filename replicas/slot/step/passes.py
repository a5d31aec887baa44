"""A model that chooses tokens for rows: what the loop calls, on its own thread alone."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from replicas.slot.request.choice import Choice
from replicas.slot.request.sequence import Sequence


class Passes(Protocol):
    """The two things that every engine does."""

    def prefill(self, row: int, sequence: Sequence, tokens: int) -> Choice | None:
        """Put the next `tokens` of the part that is prefilled into `row`; the next token if one is wanted now."""
        ...

    def decode(self, row: int, sequences: list[Sequence]) -> list[Choice | None]:
        """Append each sequence's next token to its row, `row` the first; the one after where it is wanted."""
        ...


class Extension(Protocol):
    """Several tokens of one row in one call, and the choices behind each of them."""

    def extend(self, row: int, sequence: Sequence, tokens: tuple[int, ...]) -> NDArray[np.float32]:
        """Append `tokens` to `row`: logits [len(tokens), vocab] behind each of them."""
        ...

    def choose(self, logits: NDArray[np.float32], sequence: Sequence) -> Choice:
        """The next token of `sequence` by `logits` [1, vocab], or why there is none."""
        ...

    def judge(self, logits: NDArray[np.float32], sequence: Sequence, token: int) -> Choice:
        """`token` as a choice: it was dictated, `logits` [1, vocab] say how likely it was."""
        ...
