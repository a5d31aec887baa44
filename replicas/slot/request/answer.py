"""What one request gets back: tokens in, certain text out, and the verdict when it is over."""

from collections.abc import Collection

from replicas.detokenizer import Detokenizer, StopFilter
from replicas.engine import Finish, Sampling


class Answer:
    """Turns tokens into text up to the end of turn, a stop string or `limit` tokens.

    `is_clamped`: `limit` is the room left in the slot, not what the caller asked for. Text from before `min_tokens`
    is let through unchecked and is no part of a stop string.
    """

    def __init__(
        self,
        sampling: Sampling,
        detokenizer: Detokenizer,
        end_ids: Collection[int],
        limit: int,
        *,
        is_clamped: bool = False,
    ) -> None:
        self._detokenizer = detokenizer
        self._stops = StopFilter(sampling.stop, keeps_stop=sampling.keeps_stop)
        self._end_ids = () if sampling.ignore_eos else end_ids
        self._stop_ids = frozenset(sampling.stop_token_ids)
        self._keeps_stop = sampling.keeps_stop
        self._min_tokens = sampling.min_tokens
        self._limit = limit
        self._at_limit = Finish.CONTEXT if is_clamped else Finish.LENGTH
        self.generated = 0
        self.stop_sequence: str | None = None

    @property
    def left(self) -> int:
        """How many tokens may still come."""
        return self._limit - self.generated

    def take(self, token: int) -> tuple[str, Finish | None]:
        """The text that `token` made certain, and the verdict if it was the last."""
        self.generated += 1
        if token in self._end_ids:
            return self._finished("", Finish.END)
        if token in self._stop_ids:
            return self._stopped(token)
        text = self._checked(self._detokenizer.push(token))
        if self.stop_sequence is not None:
            return text, Finish.STOP
        if self.generated >= self._limit:
            return self._finished(text, self._at_limit)
        return text, None

    def end(self, text: str) -> tuple[str, Finish]:
        """Nothing more may follow: `text` and what was held back, and the verdict."""
        return self._finished(text, Finish.END)

    def rest(self) -> str:
        """What was held back, when no more tokens come."""
        text = self._checked(self._detokenizer.flush())
        return text if self.stop_sequence is not None else text + self._stops.flush()

    def _stopped(self, token: int) -> tuple[str, Finish]:
        """`token` ends the answer by its id."""
        text = self._checked(self._detokenizer.push(token)) if self._keeps_stop else ""
        return (text, Finish.STOP) if self.stop_sequence is not None else self._finished(text, Finish.STOP)

    def _finished(self, text: str, finish: Finish) -> tuple[str, Finish]:
        text += self.rest()
        return text, finish if self.stop_sequence is None else Finish.STOP

    def _checked(self, text: str) -> str:
        if self.generated < self._min_tokens:
            return text
        text, self.stop_sequence = self._stops.push(text)
        return text
