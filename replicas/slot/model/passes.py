"""A model behind the loop: forward passes, and the sampler that chooses by their logits."""

import numpy as np
from numpy.typing import NDArray

from replicas.slot.model.forward import Forward
from replicas.slot.model.sampler import Sampler
from replicas.slot.request.choice import Choice
from replicas.slot.request.sequence import Sequence


class ModelPasses:
    """Forward passes and the choice of tokens, as the loop wants them."""

    def __init__(self, forward: Forward, sampler: Sampler) -> None:
        self._forward = forward
        self._sampler = sampler

    def prefill(self, row: int, sequence: Sequence, tokens: int) -> Choice | None:
        start, end = sequence.length, sequence.length + tokens
        chunk = sequence.tokens[start:end]
        if sequence.request.wants_embedding:
            _add_hidden(sequence, self._forward.embed(row, chunk, start, sequence.lane))
            return None
        if end == sequence.base == len(sequence.tokens) and sequence.constraint is not None:
            sequence.constraint.begin()
        logits = self._forward.prefill(row, chunk, start, sequence.lane)
        if end < sequence.base or sequence.base < len(sequence.tokens):
            return None
        return self._sampler.choose(logits, [sequence])[0]

    def decode(self, row: int, sequences: list[Sequence]) -> list[Choice | None]:
        wanting = [place for place, sequence in enumerate(sequences) if sequence.wants_choice]
        for place in wanting:
            constraint = sequences[place].constraint
            if constraint is not None:
                constraint.begin()
        tokens = [sequence.tokens[sequence.length] for sequence in sequences]
        lengths = [sequence.length for sequence in sequences]
        logits = self._forward.decode(row, tokens, lengths, sequences[0].lane)
        if len(wanting) == len(sequences):
            return [*self._sampler.choose(logits, sequences)]
        choices: list[Choice | None] = [None] * len(sequences)
        chosen = self._sampler.choose(logits[wanting], [sequences[place] for place in wanting])
        for place, choice in zip(wanting, chosen, strict=True):
            choices[place] = choice
        return choices

    def extend(self, row: int, sequence: Sequence, tokens: tuple[int, ...]) -> NDArray[np.float32]:
        return self._forward.verify(row, tokens, sequence.length, sequence.lane)

    def choose(self, logits: NDArray[np.float32], sequence: Sequence) -> Choice:
        return self._sampler.choose(logits, [sequence])[0]

    def judge(self, logits: NDArray[np.float32], sequence: Sequence, token: int) -> Choice:
        return self._sampler.judge(logits[0], sequence, token)


def _add_hidden(sequence: Sequence, hidden: NDArray[np.float32]) -> None:
    """Add up hidden states token by token, so that the sum does not depend on how the prompt was cut."""
    if sequence.hidden_sum is None:
        sequence.hidden_sum = np.zeros(hidden.shape[1])
    for state in hidden:
        sequence.hidden_sum += state
