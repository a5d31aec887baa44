"""What is told of one answer beside its text: when things happened, how likely its tokens were, what is unreported."""

import math

from replicas.engine import Timings, TokenScore
from replicas.slot.request.choice import Choice


class Record:
    """Times in seconds of the loop's clock; log-probabilities under the unmodified model."""

    __slots__ = ("_began_s", "_first_token_s", "_min", "_scores", "_submitted_s", "_sum", "_tokens", "_unreported")

    def __init__(self) -> None:
        self._submitted_s = 0.0
        self._began_s: float | None = None
        self._first_token_s: float | None = None
        self._sum = 0.0
        self._min = math.inf
        self._tokens = 0
        self._unreported = 0
        self._scores: list[TokenScore] = []

    @property
    def was_begun(self) -> bool:
        """It had a row already."""
        return self._began_s is not None

    @property
    def mean_logprob(self) -> float | None:
        return self._sum / self._tokens if self._tokens else None

    @property
    def min_logprob(self) -> float | None:
        return self._min if self._tokens else None

    def submitted(self, now_s: float) -> None:
        self._submitted_s = now_s

    def begun(self, now_s: float) -> None:
        """It got a row; only the first time counts."""
        if self._began_s is None:
            self._began_s = now_s

    def chosen(self, choice: Choice, now_s: float) -> None:
        """One more token."""
        if self._first_token_s is None:
            self._first_token_s = now_s
        self._tokens += 1
        self._unreported += 1
        self._sum += choice.logprob
        self._min = min(self._min, choice.logprob)
        if choice.score is not None:
            self._scores.append(choice.score)

    def unreported(self) -> tuple[int, tuple[TokenScore, ...]]:
        """Tokens, and their scores, since this was last asked."""
        tokens, self._unreported = self._unreported, 0
        scores, self._scores = tuple(self._scores), []
        return tokens, scores

    def timings(self, now_s: float) -> Timings:
        """Up to now, which is the end."""
        began_s = now_s if self._began_s is None else self._began_s
        first_token_s = now_s if self._first_token_s is None else self._first_token_s
        return Timings(began_s - self._submitted_s, first_token_s - began_s, now_s - first_token_s)
