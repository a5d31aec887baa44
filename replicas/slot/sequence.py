"""One request under way: what it asked for, how far it is, and when. The loop's thread owns it."""

import math
import secrets
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from replicas.engine import Chunk, Final, Finish, Generation, Sink, Timings, Usage
from replicas.errors import ShoalError
from replicas.slot.answer import Answer


class SeenTokens:
    """The different tokens of prompt and output, for the repetition penalty."""

    def __init__(self, tokens: Iterable[int], capacity: int) -> None:
        self._set: set[int] = set()
        self._ids = np.empty(capacity, np.int64)
        for token in tokens:
            self.add(token)

    def add(self, token: int) -> None:
        if token not in self._set:
            self._ids[len(self._set)] = token
            self._set.add(token)

    @property
    def ids(self) -> NDArray[np.int64]:
        return self._ids[: len(self._set)]


class Sequence:
    """A request in the loop. `limit` is the most tokens that it may generate, `now_s` when it was submitted."""

    __slots__ = (
        "_first_token_s",
        "_logprob_min",
        "_logprob_sum",
        "_prefill_s",
        "_submitted_s",
        "_unreported",
        "answer",
        "expires_s",
        "is_done",
        "is_plain_greedy",
        "last_token",
        "length",
        "prompt",
        "request",
        "sampling",
        "seed",
        "seen",
        "sink",
    )

    def __init__(self, request: Generation, prompt: tuple[int, ...], answer: Answer, sink: Sink, limit: int) -> None:
        sampling = request.sampling
        self.request = request
        self.prompt = prompt
        self.answer = answer
        self.sink = sink
        self.sampling = sampling
        self.seed = secrets.randbits(64) if sampling.seed is None else sampling.seed
        has_penalty = sampling.repetition_penalty != 1
        self.seen = SeenTokens(prompt, len(prompt) + limit) if has_penalty else None
        is_greedy = sampling.temperature == 0 or sampling.top_k == 1
        self.is_plain_greedy = is_greedy and not has_penalty and sampling.min_tokens == 0
        self.length = 0  # tokens in the KV cache
        self.last_token = -1  # chosen, not in the KV cache yet
        self.is_done = False
        self.expires_s = math.inf
        self._submitted_s = 0.0
        self._prefill_s: float | None = None
        self._first_token_s: float | None = None
        self._logprob_sum = 0.0
        self._logprob_min = math.inf
        self._unreported = 0

    @property
    def generated(self) -> int:
        return self.answer.generated

    @property
    def position(self) -> int:
        """Where in the sequence the next token goes."""
        return len(self.prompt) + self.answer.generated

    def submit(self, now_s: float) -> None:
        self._submitted_s = now_s
        self.expires_s = now_s + self.request.deadline_s

    def begin_prefill(self, now_s: float) -> None:
        if self._prefill_s is None:
            self._prefill_s = now_s

    def take(self, token: int, logprob: float, now_s: float) -> tuple[str, Finish | None]:
        """Note a chosen token; the text it made certain, and the verdict if it was the last."""
        if self._first_token_s is None:
            self._first_token_s = now_s
        self.last_token = token
        if self.seen is not None:
            self.seen.add(token)
        self._logprob_sum += logprob
        self._logprob_min = min(self._logprob_min, logprob)
        self._unreported += 1
        return self.answer.take(token)

    def chunk(self, text: str, final: Final | None = None) -> Chunk:
        """A chunk that reports every token taken since the one before."""
        tokens, self._unreported = self._unreported, 0
        return Chunk(self.request.id, text, tokens, final)

    def final(self, finish: Finish, now_s: float, error: ShoalError | None = None) -> Final:
        generated = self.answer.generated
        prefill_s = now_s if self._prefill_s is None else self._prefill_s
        first_token_s = now_s if self._first_token_s is None else self._first_token_s
        return Final(
            finish=finish,
            usage=Usage(prompt=len(self.prompt), generated=generated),
            timings=Timings(prefill_s - self._submitted_s, first_token_s - prefill_s, now_s - first_token_s),
            stop_sequence=self.answer.stop_sequence if finish is Finish.STOP else None,
            mean_logprob=self._logprob_sum / generated if generated else None,
            min_logprob=self._logprob_min if generated else None,
            error=error,
        )
