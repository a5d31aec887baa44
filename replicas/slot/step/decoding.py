"""The first stage of a step: one more token for every active row, a call for each lane.

A row whose next tokens were dictated by a grammar is in the call too, because a call takes neighbours; what that
writes is written over by the run. When a call throws, its rows are tried one by one: who throws alone is to blame and
gets the error, the others have lost nothing but time.
"""

import logging

from replicas.errors import ShoalError
from replicas.slot.request.choice import Choice
from replicas.slot.request.sequence import Sequence
from replicas.slot.step.passes import Passes
from replicas.slot.step.work import Work

_logger = logging.getLogger(__name__)


class Decoding:
    """Decodes the active rows of `work`."""

    def __init__(self, work: Work, passes: Passes) -> None:
        self._work = work
        self._passes = passes

    def step(self) -> None:
        """One token for every row."""
        work = self._work
        self._cross()
        if not work.rows.active:
            return
        began_s = work.requests.clock()
        for row, group in list(work.rows.groups()):
            self._decode(row, group)
        work.pace.decoded(work.requests.clock() - began_s)

    def _cross(self) -> None:
        """Rows whose next token lies beyond LongRoPE's switch are prefilled anew under the long factors."""
        for sequence in list(self._work.rows.active):
            if sequence.length >= sequence.reach:
                sequence.rebase()
                self._work.give_up(sequence)

    def _decode(self, row: int, group: list[Sequence]) -> None:
        work, clock = self._work, self._work.requests.clock
        began_s = clock()
        try:
            choices = self._passes.decode(row, group)
        except ShoalError:  # a request's own
            choices = self._one_by_one(row, group)
        except Exception:
            _logger.exception("decode failed", extra={"model": work.limits.model, "rows": len(group)})
            choices = self._one_by_one(row, group)
        work.ran(choices)
        work.tally.decoded(len(group), clock() - began_s)
        for place, (sequence, choice) in enumerate(zip(group, choices, strict=True), row):
            if sequence.is_done or sequence.run:
                continue
            sequence.length += 1
            if choice is None:
                work.tally.replayed_tokens += 1
            else:
                work.take(place, sequence, choice)

    def _one_by_one(self, row: int, group: list[Sequence]) -> list[Choice | None]:
        work = self._work
        choices: list[Choice | None] = []
        failed: list[tuple[Sequence, Exception]] = []
        for place, sequence in enumerate(group, row):
            try:
                choices += self._passes.decode(place, [sequence])
                continue
            except ShoalError as own:
                failed.append((sequence, own))
            except Exception as alone:
                _logger.exception("a row failed alone", extra={"model": work.limits.model})
                failed.append((sequence, alone))
            choices.append(None)
        is_model_broken = len(failed) == len(group)
        for sequence, error in failed:
            work.broke(sequence, error, is_model_broken=is_model_broken)
            is_model_broken = False  # counted
        return choices
