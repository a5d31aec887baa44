"""The rows of the slab in use: those that decode are 0..n-1 without a gap, one more may be filling up.

A decode call takes neighbouring rows of one lane. A row that is free is filled by the last active one, whose KV is
copied over it; rows of different lanes that came to stand mixed are sorted by one exchange a step. A prompt fills the
row behind the active ones; if rows leave meanwhile it stays where it is and moves down only when it joins them.
"""

from collections.abc import Iterator

from replicas.slot.request.lane import Lane
from replicas.slot.request.sequence import Sequence
from replicas.slot.step.memory import RowMemory


class Rows:
    """Who has which row. Row `slots`, the one behind the last, is never given away: exchanges go through it."""

    def __init__(self, slots: int, memory: RowMemory) -> None:
        self.slots = slots
        self._memory = memory
        self._filling_row = 0
        self.active: list[Sequence] = []
        self.filling: Sequence | None = None

    @property
    def used(self) -> int:
        return len(self.active) + (self.filling is not None)

    @property
    def tokens(self) -> int:
        """Tokens in the KV cache. A thread other than the loop's gets a recent value."""
        filling = self.filling
        return sum(sequence.length for sequence in self.active.copy()) + (filling.length if filling else 0)

    @property
    def has_room(self) -> bool:
        return self.filling is None and len(self.active) < self.slots

    @property
    def filling_row(self) -> int:
        return self._filling_row

    def begin(self, sequence: Sequence) -> int:
        """Give `sequence` a row to fill; which."""
        self.filling, self._filling_row = sequence, len(self.active)
        sequence.is_seated = True
        return self._filling_row

    def activate(self) -> None:
        """The filling row is full: it decodes from now on."""
        sequence = self.filling
        assert sequence is not None
        if self._filling_row != len(self.active):
            self._memory.move(self._filling_row, len(self.active), sequence.length)
        self.active.append(sequence)
        self.filling = None

    def groups(self) -> Iterator[tuple[int, list[Sequence]]]:
        """Neighbours of one lane: the first row, and who they are."""
        start = 0
        for row in range(1, len(self.active) + 1):
            if row == len(self.active) or self.active[row].lane != self.active[start].lane:
                yield start, self.active[start:row]
                start = row

    def compact(self) -> None:
        """Drop who is done or unseated and close the gaps: each survivor is copied at most once."""
        if self.filling is not None and _has_left(self.filling):
            self.filling = None
        active = self.active
        for row in range(len(active)):
            while active and _has_left(active[-1]):
                active.pop()
            if row >= len(active):
                return
            if _has_left(active[row]):
                last = active[-1]  # stays listed until the copy worked: whoever is not listed gets no answer
                self._memory.move(len(active) - 1, row, last.length)
                active[row] = last
                active.pop()

    def sort(self) -> None:
        """Bring one row that stands apart back to its lane, if there is such a row."""
        active = self.active
        ends: dict[Lane, int] = {}
        for row, sequence in enumerate(active):
            end = ends.get(sequence.lane, row)
            if end != row:
                self._exchange(end, row)
                return
            ends[sequence.lane] = row + 1

    def clear(self) -> list[Sequence]:
        """Drop everything; what was there."""
        dropped = [*self.active, *([self.filling] if self.filling is not None else [])]
        self.active.clear()
        self.filling = None
        return dropped

    def _exchange(self, one: int, other: int) -> None:
        active, spare = self.active, self.slots
        self._memory.move(one, spare, active[one].length)
        self._memory.move(other, one, active[other].length)
        self._memory.move(spare, other, active[one].length)
        active[one], active[other] = active[other], active[one]


def _has_left(sequence: Sequence) -> bool:
    return sequence.is_done or not sequence.is_seated
