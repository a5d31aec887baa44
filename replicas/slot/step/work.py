"""What the stages of a step share, and the one place where a chosen token is taken."""

import math
from collections.abc import Sequence as Many
from dataclasses import dataclass

import numpy as np

from replicas.engine import Finish
from replicas.errors import EngineFailed, ShoalError
from replicas.slot.request.choice import Choice
from replicas.slot.request.sequence import Sequence
from replicas.slot.step.memory import Prefixes, RowMemory
from replicas.slot.step.pace import Pace
from replicas.slot.step.requests import LoopLimits, Requests
from replicas.slot.step.rows import Rows
from replicas.slot.step.tally import Tally


@dataclass(slots=True)
class Work:
    """One loop's state. Only its thread changes it."""

    limits: LoopLimits
    requests: Requests
    rows: Rows
    memory: RowMemory
    prefixes: Prefixes
    tally: Tally
    pace: Pace
    failures_in_a_row: int = 0  # of runs of the model; one whose rows are all NaN is one

    def take(self, row: int, sequence: Sequence, choice: Choice) -> None:
        """`sequence`, in `row`, goes on with `choice`; it ends if that was the last or is broken."""
        if self.note(row, sequence, choice):
            try:
                sequence.plan()
            except ShoalError as error:
                self.requests.fail(sequence, error)

    def note(self, row: int, sequence: Sequence, choice: Choice) -> bool:
        """Add one token; False if the sequence is done."""
        if choice.error is not None:
            self.requests.fail(sequence, choice.error)
            return False
        if math.isnan(choice.logprob):
            self._not_a_number(sequence)
            return False
        self.tally.generated_tokens += 1
        try:
            text, finish = sequence.take(choice, self.requests.clock())
        except ShoalError as error:
            self.requests.fail(sequence, error)
            return False
        if finish is None:
            self.requests.tell(sequence, text)
            return True
        self.prefixes.keep(row, sequence)
        self.requests.end(sequence, finish, text)
        return False

    def give_up(self, sequence: Sequence) -> None:
        """`sequence` leaves its row for another one and goes on later."""
        sequence.unseat()
        self.rows.compact()
        self.requests.put_back(sequence)

    def ran(self, choices: Many[Choice | None]) -> None:
        """A run of the model returned. One without a choice says nothing of its numbers."""
        made = [choice for choice in choices if choice is not None]
        if made:
            self.ran_well(any(not math.isnan(choice.logprob) for choice in made))

    def ran_well(self, is_number: bool) -> None:
        """A run of the model returned; whether there is a number in what came out."""
        self.failures_in_a_row = 0 if is_number else self.failures_in_a_row + 1

    def broke(self, sequence: Sequence, error: Exception, *, is_model_broken: bool = True) -> None:
        """A call for `sequence` failed for good: it gets the error. An error of ours is the request's own fault."""
        if isinstance(error, ShoalError):
            self.requests.fail(sequence, error)
            return
        self.failures_in_a_row += is_model_broken
        self.prefixes.forget(sequence)
        self.requests.fail(sequence, EngineFailed(str(error)))

    def ended(self, row: int, sequence: Sequence) -> None:
        """An answer without tokens is complete."""
        hidden = sequence.hidden_sum
        is_number = hidden is None or bool(np.isfinite(hidden).all())
        self.ran_well(is_number)
        if not is_number:
            self._not_a_number(sequence)
            return
        self.prefixes.keep(row, sequence)
        self.requests.end(sequence, Finish.END, "")

    def _not_a_number(self, sequence: Sequence) -> None:
        self.prefixes.forget(sequence)
        self.requests.fail(sequence, EngineFailed("the model's output is not a number"))
