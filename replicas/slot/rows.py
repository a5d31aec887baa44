"""The rows of the slab in use: those that decode are 0..n-1 without a gap, one more may be filling up.

A decode call takes neighbouring rows, so a finished row is replaced by the last active one, whose KV is copied over
it. A prompt fills the row behind the active ones; if rows finish meanwhile it stays where it is and moves down only
when it joins them.
"""

from collections.abc import Callable

from replicas.slot.sequence import Sequence

Move = Callable[[int, int, int], None]
"""(source row, target row, tokens to copy)."""


class Rows:
    """Who has which row."""

    def __init__(self, slots: int, move: Move) -> None:
        self._slots = slots
        self._move = move
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
        return self.filling is None and len(self.active) < self._slots

    @property
    def filling_row(self) -> int:
        return self._filling_row

    def begin(self, sequence: Sequence) -> None:
        """Give `sequence` a row to fill."""
        self.filling, self._filling_row = sequence, len(self.active)

    def activate(self) -> None:
        """The filling row is full: it decodes from now on."""
        sequence = self.filling
        assert sequence is not None
        if self._filling_row != len(self.active):
            self._move(self._filling_row, len(self.active), sequence.length)
        self.active.append(sequence)
        self.filling = None

    def compact(self) -> None:
        """Drop what is done and close the gaps: each survivor is copied at most once."""
        if self.filling is not None and self.filling.is_done:
            self.filling = None
        active = self.active
        for row in range(len(active)):
            while active and active[-1].is_done:
                active.pop()
            if row >= len(active):
                return
            if active[row].is_done:
                last = active[-1]  # stays listed until the copy worked: whoever is not listed gets no answer
                self._move(len(active) - 1, row, last.length)
                active[row] = last
                active.pop()

    def clear(self) -> list[Sequence]:
        """Drop everything; what was there."""
        dropped = [*self.active, *([self.filling] if self.filling is not None else [])]
        self.active.clear()
        self.filling = None
        return dropped
