"""The last stage of a step: the next prompt, chunk by chunk, and who gets a row for it.

An interactive request that finds no row takes the youngest batch request's: that one's KV is copied out, or written
again later if there is no memory for it. A batch prompt that is being read gives way too; what was read of it is in
the prefix cache. A batch request that has waited long enough does not give way again.
"""

import logging

from replicas.errors import ShoalError
from replicas.slot.request.sequence import Sequence
from replicas.slot.step.passes import Passes
from replicas.slot.step.work import Work

_logger = logging.getLogger(__name__)


class Prefilling:
    """Reads prompts into the rows of `work`."""

    def __init__(self, work: Work, passes: Passes) -> None:
        self._work = work
        self._passes = passes
        self._is_short = False  # what there is to read of the prompt in the filling row was, at first

    def step(self, budget: int) -> None:
        """Spend `budget` tokens; a short prompt may take more, of a long one there is one chunk."""
        rows = self._work.rows
        while budget >= 2:
            self._make_room()
            if rows.has_room:
                self._admit()
            sequence = rows.filling
            if sequence is None:
                return
            remaining = sequence.base - sequence.length
            tokens = self._tokens(sequence, remaining, budget)
            self._work.requests.deliver()  # what was decoded does not wait for the prompt
            self._chunk(sequence, tokens)
            budget = budget - tokens if tokens == remaining else 0
            self._work.requests.sweep()
            rows.compact()

    def _tokens(self, sequence: Sequence, remaining: int, budget: int) -> int:
        pace = self._work.pace
        if self._is_short:
            return next_chunk(remaining, pace.most(remaining, budget, may_borrow=not sequence.is_batch))
        return next_chunk(remaining, min(budget, self._work.limits.prefill_chunk))

    def _make_room(self) -> None:
        work, rows = self._work, self._work.rows
        if not work.requests.interactive_waiting or rows.has_room:
            return
        if rows.filling is not None:
            if _gives_way(rows.filling):
                work.tally.preemptions += 1
                work.give_up(rows.filling)
            return
        victims = [sequence for sequence in rows.active if _gives_way(sequence)]
        if victims:
            self._preempt(max(victims, key=lambda sequence: sequence.submitted_s))

    def _preempt(self, victim: Sequence) -> None:
        work = self._work
        row = work.rows.active.index(victim)
        victim.saved = work.memory.save(row, victim.length)
        work.tally.preemptions += 1
        work.give_up(victim)

    def _admit(self) -> None:
        """Give the next request a row, with what is known of it already."""
        work, rows = self._work, self._work.rows
        sequence = work.requests.pop()
        if sequence is None:
            return
        is_first = not sequence.record.was_begun
        sequence.record.begun(work.requests.clock())
        row = rows.begin(sequence)
        if sequence.saved is not None:
            work.memory.restore(row, sequence.saved)
            sequence.length, sequence.saved = sequence.saved.tokens, None
        else:
            sequence.length = work.prefixes.load(row, sequence)
            if is_first:
                sequence.cached = sequence.length
                work.tally.cached_tokens += sequence.length
        remaining = sequence.base - sequence.length
        self._is_short = work.pace.is_short(remaining)
        work.pace.began()
        if remaining <= 0:
            rows.activate()

    def _chunk(self, sequence: Sequence, tokens: int) -> None:
        work, row = self._work, self._work.rows.filling_row
        began_s = work.requests.clock()
        try:
            choice = self._passes.prefill(row, sequence, tokens)
        except ShoalError as own:
            work.broke(sequence, own)
            return
        except Exception as error:
            _logger.exception("prefill failed", extra={"model": work.limits.model, "tokens": tokens})
            work.broke(sequence, error)
            return
        work.ran([choice])
        seconds = work.requests.clock() - began_s
        work.tally.prefilled(tokens, seconds)
        work.pace.prefilled(tokens, seconds, is_whole=self._is_short and not sequence.is_batch)
        sequence.length += tokens
        work.prefixes.keep(row, sequence)
        if sequence.length < sequence.base:
            return
        if sequence.request.wants_embedding:
            work.ended(row, sequence)
        elif choice is not None:
            work.take(row, sequence, choice)
        if not sequence.is_done:
            work.rows.activate()


def _gives_way(sequence: Sequence) -> bool:
    return sequence.is_batch and not sequence.is_aged and not sequence.is_done


def next_chunk(remaining: int, budget: int) -> int:
    """How many of a prompt's `remaining` tokens to prefill now: about `budget`, never one and never all but one.

    A chunk of one token takes another attention kernel, whose results differ in the last bits: how a prompt is cut
    would show. Only a prompt of one token is prefilled by one; it always is. At most max(budget, 3).
    """
    if remaining <= max(budget, 3):
        return remaining
    return budget if remaining - budget != 1 else max(2, budget - 1)
