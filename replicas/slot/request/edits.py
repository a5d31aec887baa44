"""What one request changes of the model's logits before a token is chosen: its biases, and its penalties for repeating.

    logits + bias; then / or * repetition_penalty; then - frequency_penalty * count - presence_penalty * (count > 0)

The order is vLLM's. The repetition penalty sees prompt and output, the other two what was written alone. All of it
follows from the request and its tokens, so a request that is written again is changed in the same way.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from replicas.engine import Sampling


class SeenTokens:
    """The different tokens of a text, at most `capacity`, and how often each was written after `prompt`."""

    def __init__(self, prompt: Iterable[int], capacity: int) -> None:
        self._places: dict[int, int] = {}
        self._ids = np.empty(capacity, np.int64)
        self._counts = np.zeros(capacity, np.float32)
        for token in prompt:
            self._place(token)

    def add(self, token: int) -> None:
        """It was written."""
        self._counts[self._place(token)] += 1

    @property
    def ids(self) -> NDArray[np.int64]:
        return self._ids[: len(self._places)]

    @property
    def counts(self) -> NDArray[np.float32]:
        """In the order of `ids`; 0 for what stands in the prompt alone."""
        return self._counts[: len(self._places)]

    def _place(self, token: int) -> int:
        place = self._places.setdefault(token, len(self._places))
        self._ids[place] = token
        return place


class Edits:
    """The changes of one request. None at all if not `has_any`."""

    def __init__(self, sampling: Sampling, prompt: tuple[int, ...], limit: int) -> None:
        self._sampling = sampling
        self._biased = np.array([token for token, _ in sampling.logit_bias], np.int64)
        self._bias = np.array([bias for _, bias in sampling.logit_bias], np.float32)
        self._sees_prompt = sampling.repetition_penalty != 1
        is_counting = sampling.frequency_penalty != 0 or sampling.presence_penalty != 0
        text = prompt if self._sees_prompt else ()
        is_watching = self._sees_prompt or is_counting
        self._seen = SeenTokens(text, len(text) + limit) if is_watching else None
        self.has_any = is_watching or bool(sampling.logit_bias)

    def add(self, token: int) -> None:
        """The answer goes on with `token`."""
        if self._seen is not None:
            self._seen.add(token)

    def apply(self, logits: NDArray[np.float32]) -> None:
        """Change `logits` [vocab] in place."""
        logits[self._biased] += self._bias
        if self._seen is None:
            return
        ids, counts, sampling = self._seen.ids, self._seen.counts, self._sampling
        values = logits[ids]
        if self._sees_prompt:
            penalty = np.float32(sampling.repetition_penalty)
            values = np.where(values > 0, values / penalty, values * penalty)
        values -= np.float32(sampling.frequency_penalty) * counts
        values -= np.float32(sampling.presence_penalty) * (counts > 0)
        logits[ids] = values
