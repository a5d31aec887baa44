"""The middle stage of a step: rows that get several tokens in one call.

What a grammar dictates (`Sequence.planned`) is written at once instead of token by token. The rule by which a run is
made depends on the request alone, so the same request has the same runs alone and in a crowd; a request that is
written again repeats them.

A draft is a guess: the tokens that followed the same few tokens earlier in the text (prompt lookup, Saxena 2023). One
call gives the model's own choice behind each of them, and those it agrees with are kept. KV written so differs in the
last bits from KV written by decoding, so drafts are for relaxed determinism only, and only while few rows decode: a
batch of many rows uses the machine as well.
"""

import logging

import numpy as np
from numpy.typing import NDArray

from replicas.errors import ShoalError
from replicas.slot.request.lookup import MOST, Lookup
from replicas.slot.request.sequence import Sequence
from replicas.slot.step.passes import Extension
from replicas.slot.step.work import Work

_logger = logging.getLogger(__name__)

DRAFT_ROWS = 2
"""Drafts are made while at most so many rows decode."""


class Extending:
    """Writes runs, and with `is_drafting` drafts."""

    def __init__(self, work: Work, extension: Extension, *, is_drafting: bool) -> None:
        self._work = work
        self._extension = extension
        self._is_drafting = is_drafting
        self._last_row = -1

    def step(self, budget: int) -> int:
        """Write runs while `budget` lasts, one at least, row after row in turns; what is left of it."""
        due = [(row, sequence) for row, sequence in enumerate(self._work.rows.active) if sequence.run]
        due.sort(key=lambda each: each[0] <= self._last_row)
        for row, sequence in due:
            if budget <= 0:
                return 0
            budget -= sequence.run
            self._last_row = row
            self._write_run(row, sequence)
        self._draft()
        return budget

    def _write_run(self, row: int, sequence: Sequence) -> None:
        work, end = self._work, sequence.length + sequence.run
        known = sequence.tokens[sequence.length : end]
        planned = sequence.planned if end > len(sequence.tokens) else ()  # else it is an earlier run, written again
        logits = self._extended(row, sequence, (*known, *planned))
        if logits is None:
            return
        sequence.length += len(known)
        if not planned:
            work.tally.replayed_tokens += len(known)
        for place, token in enumerate(planned, len(known)):
            work.tally.forced_tokens += 1
            choice = self._extension.judge(logits[place - 1 : place], sequence, token)
            sequence.planned = sequence.planned[1:]
            sequence.length += 1  # its KV is there already
            if not work.note(row, sequence, choice):
                return
        if sequence.length == len(sequence.tokens):
            work.take(row, sequence, self._extension.choose(logits[-1:], sequence))

    def _draft(self) -> None:
        active = self._work.rows.active
        if not self._is_drafting or len(active) > DRAFT_ROWS:
            return
        for row, sequence in enumerate(active):
            if not sequence.is_done and sequence.wants_choice and sequence.constraint is None:
                self._try_draft(row, sequence)

    def _try_draft(self, row: int, sequence: Sequence) -> None:
        if sequence.lookup is None:
            sequence.lookup = Lookup()
        draft = sequence.lookup.guess(sequence.tokens, self._draft_room(sequence))
        if not draft:
            return
        logits = self._extended(row, sequence, (sequence.tokens[-1], *draft))
        if logits is None:
            return
        accepted = 0
        sequence.length += 1
        choice = self._extension.choose(logits[:1], sequence)
        while accepted < len(draft) and choice.token == draft[accepted]:
            accepted += 1
            sequence.length += 1  # its KV is there already
            if not self._work.note(row, sequence, choice):
                break
            choice = self._extension.choose(logits[accepted : accepted + 1], sequence)
        if not sequence.is_done:
            self._work.take(row, sequence, choice)
        self._work.tally.draft_tokens += len(draft)
        self._work.tally.accepted_tokens += accepted
        sequence.lookup.learn(len(draft), accepted)

    def _draft_room(self, sequence: Sequence) -> int:
        """How long a draft may be: the model's own choice follows it, and a call stays in its lane."""
        return min(MOST, sequence.answer.left - 1, sequence.reach - len(sequence.tokens))

    def _extended(self, row: int, sequence: Sequence, tokens: tuple[int, ...]) -> NDArray[np.float32] | None:
        """Logits behind each of `tokens`; None if the call failed and `sequence` with it."""
        work = self._work
        began_s = work.requests.clock()
        try:
            logits = self._extension.extend(row, sequence, tokens)
        except ShoalError as own:
            work.broke(sequence, own)
            return None
        except Exception as error:
            _logger.exception("extension failed", extra={"model": work.limits.model, "tokens": len(tokens)})
            work.broke(sequence, error)
            return None
        work.ran_well(bool(np.isfinite(logits[-1].max())))  # NaN if any of it is
        work.tally.decode_s += work.requests.clock() - began_s
        return logits
