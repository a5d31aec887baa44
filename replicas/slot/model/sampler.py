"""Which token comes next, for all rows of a step.

The best token of every row is one vector operation over the batch. The rest goes row by row in one buffer that stays
in the processor's cache (measured on a 49152 vocabulary: a quarter faster than over the whole batch), and so depends
on no neighbour. A draw is one number from Philox, keyed by the seed, counted by the position in the sequence: an
answer that goes on elsewhere goes on as it would have.
"""

import logging
from collections.abc import Callable
from collections.abc import Sequence as Many

import numpy as np
from numpy.typing import NDArray

from replicas.engine import Scored, TokenScore
from replicas.errors import EngineFailed, InvalidRequest, ShoalError
from replicas.grammar import keep_allowed
from replicas.slot.request.choice import Choice
from replicas.slot.request.sequence import Sequence

_logger = logging.getLogger(__name__)

Logits = NDArray[np.float32]

_SEED_MASK = 2**64 - 1
_BLOCK = 256  # of a vocabulary, where two levels are faster than one


class Sampler:
    """Chooses tokens of a vocabulary of `vocab`. `eos_ids` are what `min_tokens` forbids. Not thread-safe.

    `bytes_of` spells a token, for scores.
    """

    def __init__(self, vocab: int, eos_ids: Many[int], bytes_of: Callable[[int], bytes]) -> None:
        self._bytes_of = bytes_of
        self._eos = np.array([id_ for id_ in eos_ids if 0 <= id_ < vocab], np.int64)
        self._weights = np.empty(vocab, np.float32)
        self._edits = np.empty(vocab, np.float32)

    def choose(self, logits: Logits, sequences: Many[Sequence]) -> list[Choice]:
        """One choice for each row of `logits` [rows, vocab]; row i belongs to `sequences[i]`.

        What goes wrong in a row is in its choice: the others have theirs.
        """
        best = logits.argmax(axis=1).tolist()
        with np.errstate(invalid="ignore", over="ignore"):
            return [self._tried(*each) for each in zip(logits, best, sequences, strict=True)]

    def _tried(self, logits: Logits, best: int, sequence: Sequence) -> Choice:
        try:
            return self._chosen(logits, best, sequence)
        except ShoalError as error:  # its grammar cannot go on
            return Choice(best, 0.0, error=error)
        except Exception as error:
            _logger.exception("no token could be chosen", extra={"request": sequence.request.id})
            return Choice(best, 0.0, error=EngineFailed(f"no token could be chosen: {error}"))

    def _chosen(self, logits: Logits, best: int, sequence: Sequence) -> Choice:
        top = logits[best]  # NaN if there is any in the row: argmax stops at the first
        weights = np.subtract(logits, top, out=self._weights)
        np.exp(weights, out=weights)
        log_total = np.log(np.einsum("i->", weights))
        is_drawn = not sequence.is_plain_greedy and np.isfinite(top)
        token = self._pick(logits, weights, sequence) if is_drawn else best
        return self._choice(logits, sequence, token, float(top + log_total))

    def judge(self, logits: Logits, sequence: Sequence, token: int) -> Choice:
        """`token`, which something else has chosen, with what `logits` [vocab] say of it."""
        top = logits.max()
        with np.errstate(invalid="ignore", over="ignore"):
            weights = np.exp(np.subtract(logits, top, out=self._weights), out=self._weights)
            return self._choice(logits, sequence, token, float(top + np.log(np.einsum("i->", weights))))

    def _choice(self, logits: Logits, sequence: Sequence, token: int, log_total: float) -> Choice:
        """`token` with its score, if the request asked for scores; `log_total` is log(sum(exp(logits)))."""
        logprob = float(logits[token]) - log_total
        count = sequence.request.top_logprobs
        if count is None or not np.isfinite(logprob):
            return Choice(token, logprob)
        likeliest = heaviest(logits, count).tolist() if count else []
        likeliest.sort(key=lambda id_: (-logits[id_], id_))
        top = tuple(self._scored(id_, float(logits[id_]) - log_total) for id_ in likeliest[:count])
        return Choice(token, logprob, TokenScore(self._scored(token, logprob), top))

    def _scored(self, token: int, logprob: float) -> Scored:
        return Scored(token, self._bytes_of(token), logprob)

    def _pick(self, logits: Logits, weights: Logits, sequence: Sequence) -> int:
        """`weights` are exp(logits - max): the distribution at temperature 1 with nothing forbidden."""
        sampling = sequence.sampling
        edited = self._edited(logits, sequence)
        likeliest = int(edited.argmax())
        if not np.isfinite(edited[likeliest]):
            grammar = sequence.request.grammar
            reason = "the model gives no probability to any token that may follow here"
            raise InvalidRequest(reason, None if grammar is None else grammar.kind)
        if sampling.temperature == 0 or sampling.top_k == 1:
            return likeliest
        if edited is not logits or sampling.temperature != 1:
            np.subtract(edited, edited[likeliest], out=weights)
            weights *= np.float32(1 / sampling.temperature)
            np.exp(weights, out=weights)
        if sampling.min_p > 0:  # the likeliest weighs 1
            weights[weights < np.float32(sampling.min_p)] = 0
        tokens: NDArray[np.int64] | None = None
        if 0 < sampling.top_k < len(weights):
            tokens = heaviest(weights, sampling.top_k)
            weights = weights[tokens]
        if sampling.top_p < 1:
            kept = nucleus(weights, sampling.top_p)
            tokens = kept if tokens is None else tokens[kept]
            weights = weights[kept]
        place = drawn(weights, uniform(sequence.seed, sequence.position))
        return place if tokens is None else int(tokens[place])

    def _edited(self, logits: Logits, sequence: Sequence) -> Logits:
        """`logits` with the request's own changes and forbidden tokens; itself if there is no such.

        A grammar decides over `min_tokens`: where it allows nothing but the end, the end it is.
        """
        sampling = sequence.sampling
        is_end_forbidden = sequence.generated < sampling.min_tokens and sequence.constraint is None
        if not sequence.edits.has_any and not is_end_forbidden and sequence.constraint is None:
            return logits
        edited = self._edits
        np.copyto(edited, logits)
        sequence.edits.apply(edited)
        if is_end_forbidden:
            edited[self._eos] = -np.inf
            edited[list(sampling.stop_token_ids)] = -np.inf
        if sequence.constraint is not None:
            keep_allowed(edited, sequence.constraint.mask())
        return edited


def heaviest(weights: Logits, count: int) -> NDArray[np.int64]:
    """Indices, ascending, of the `count` heaviest weights; equals of the lightest included.

    `count` blocks have a maximum of at least the `count`-th largest one, so that many weights have: what is below
    need not be looked at.
    """
    candidates = np.arange(len(weights))
    if count <= len(weights) // _BLOCK:
        tops = weights[: len(weights) // _BLOCK * _BLOCK].reshape(-1, _BLOCK).max(axis=1)
        candidates = np.flatnonzero(weights >= np.partition(tops, -count)[-count])
    values = weights[candidates]
    kept: NDArray[np.int64] = candidates[values >= np.partition(values, -count)[-count]]
    return kept


def nucleus(weights: Logits, top_p: float) -> NDArray[np.int64]:
    """Indices, ascending, of the fewest heaviest weights that hold `top_p` of the mass; equals of the last included.

    All weights below (1 - top_p) * mass / count together hold less than 1 - top_p of the mass, so the nucleus lies
    in the others: a few hundred instead of the whole vocabulary are sorted.
    """
    mass = float(weights.sum())
    likely = np.flatnonzero(weights >= (1 - top_p) * mass / len(weights))
    values = weights[likely]
    heaviest_first = np.sort(values)[::-1]
    reached = int(heaviest_first.cumsum(dtype=np.float64).searchsorted(top_p * mass))
    kept: NDArray[np.int64] = likely[values >= heaviest_first[min(reached, len(values) - 1)]]
    return kept


def drawn(weights: Logits, number: float) -> int:
    """The index whose share of the cumulated weights `number` in [0, 1) falls in; never one of weight 0."""
    starts = np.arange(0, len(weights), _BLOCK)
    blocks = np.add.reduceat(weights, starts).cumsum(dtype=np.float64)
    wanted = number * blocks[-1]
    # Rounding may carry `wanted` to the very end, or past the end of its block: stay where there is weight.
    block = int(min(blocks.searchsorted(wanted, side="right"), blocks.searchsorted(blocks[-1])))
    members = weights[starts[block] : starts[block] + _BLOCK]
    left = wanted - (blocks[block - 1] if block else 0.0)
    place = int(members.cumsum(dtype=np.float64).searchsorted(left, side="right"))
    return int(starts[block] + min(place, np.flatnonzero(members)[-1]))


def uniform(seed: int, position: int) -> float:
    """The number in [0, 1) that belongs to `seed` and `position` (Philox 4x64, Salmon et al. 2011)."""
    raw = int(np.random.Philox(key=seed & _SEED_MASK, counter=position).random_raw())
    return (raw >> 11) * 2.0**-53
