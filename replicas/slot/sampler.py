"""Which token comes next, for all rows of a step.

Greedy rows, and the log-probabilities of all, are a few vector operations over the whole batch. A row that is drawn
works on its own logits alone, so that its tokens do not depend on its neighbours. A draw is one number from Philox,
keyed by the seed, counted by the position in the sequence: it depends on nothing else, so an answer that goes on
elsewhere goes on as it would have.
"""

from collections.abc import Sequence as Many
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from replicas.slot.sequence import Sequence

Logits = NDArray[np.float32]

_SEED_MASK = 2**64 - 1


class Choice(NamedTuple):
    """A token and its natural log-probability under the unmodified model; NaN if the model's output is broken."""

    token: int
    logprob: float


class Sampler:
    """Chooses for up to `rows` rows at a time. `eos_ids` are what `min_tokens` forbids."""

    def __init__(self, rows: int, vocab: int, eos_ids: Many[int]) -> None:
        self._eos = np.array([id_ for id_ in eos_ids if 0 <= id_ < vocab], np.int64)
        self._rows = np.arange(rows)
        self._weights = np.empty((rows, vocab), np.float32)

    def choose(self, logits: Logits, sequences: Many[Sequence]) -> list[Choice]:
        """One choice for each row of `logits` [rows, vocab]; row i belongs to `sequences[i]`."""
        count = len(sequences)
        rows, weights = self._rows[:count], self._weights[:count]
        tokens = logits.argmax(axis=1)
        tops = logits[rows, tokens]  # NaN anywhere in a row makes this NaN: argmax stops at the first
        with np.errstate(invalid="ignore", over="ignore"):
            np.subtract(logits, tops[:, None], out=weights)
            np.exp(weights, out=weights)
            log_totals = np.log(weights.sum(axis=1))
            for row, sequence in enumerate(sequences):
                if not sequence.is_plain_greedy and np.isfinite(tops[row]):
                    tokens[row] = self._pick(logits[row], weights[row], sequence)
            logprobs = logits[rows, tokens] - tops - log_totals
        return list(map(Choice, tokens.tolist(), logprobs.tolist()))

    def _pick(self, logits: Logits, weights: Logits, sequence: Sequence) -> int:
        """`weights` are exp(logits - max): the distribution at temperature 1 with nothing forbidden."""
        sampling = sequence.sampling
        edited = self._edited(logits, sequence)
        if sampling.temperature == 0 or sampling.top_k == 1:
            return int(edited.argmax())
        if edited is not logits or sampling.temperature != 1:
            weights = np.exp((edited - edited.max()) / np.float32(sampling.temperature))
        tokens: NDArray[np.int64] | None = None
        if 0 < sampling.top_k < len(weights):
            least = np.partition(weights, len(weights) - sampling.top_k)[len(weights) - sampling.top_k]
            tokens = np.flatnonzero(weights >= least)
            weights = weights[tokens]
        if sampling.top_p < 1:
            kept = nucleus(weights, sampling.top_p)
            tokens = kept if tokens is None else tokens[kept]
            weights = weights[kept]
        cumulative = weights.cumsum(dtype=np.float64)
        place = int(cumulative.searchsorted(uniform(sequence.seed, sequence.position) * cumulative[-1], side="right"))
        place = min(place, len(weights) - 1)
        return place if tokens is None else int(tokens[place])

    def _edited(self, logits: Logits, sequence: Sequence) -> Logits:
        """`logits` with penalty and forbidden tokens; a copy if there is any such."""
        penalty = sequence.sampling.repetition_penalty
        is_end_forbidden = sequence.generated < sequence.sampling.min_tokens
        if sequence.seen is None and not is_end_forbidden:
            return logits
        edited = logits.copy()
        if sequence.seen is not None:
            seen = sequence.seen.ids
            values = edited[seen]
            edited[seen] = np.where(values > 0, values / np.float32(penalty), values * np.float32(penalty))
        if is_end_forbidden:
            edited[self._eos] = -np.inf
        return edited


def nucleus(weights: Logits, top_p: float) -> NDArray[np.int64]:
    """Indices, ascending, of the fewest heaviest weights that hold `top_p` of the mass; equals of the last included.

    All weights below (1 - top_p) * mass / count together hold less than 1 - top_p of the mass, so the nucleus lies
    in the others: a few hundred instead of the whole vocabulary are sorted.
    """
    mass = float(weights.sum(dtype=np.float64))
    likely = np.flatnonzero(weights >= (1 - top_p) * mass / len(weights))
    heaviest_first = np.sort(weights[likely])[::-1]
    reached = int(heaviest_first.cumsum(dtype=np.float64).searchsorted(top_p * mass))
    least = heaviest_first[min(reached, len(heaviest_first) - 1)]
    kept: NDArray[np.int64] = likely[weights[likely] >= least]
    return kept


def uniform(seed: int, position: int) -> float:
    """The number in [0, 1) that belongs to `seed` and `position` (Philox 4x64, Salmon et al. 2011)."""
    raw = int(np.random.Philox(key=seed & _SEED_MASK, counter=position).random_raw())
    return (raw >> 11) * 2.0**-53
