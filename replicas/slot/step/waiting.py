"""Who waits for a slot: interactive requests before batch ones, each in order of arrival.

A batch request that has waited longer than AGED_S goes before interactive ones, but never two of them in a row while
an interactive one waits: neither class can starve the other.
"""

from collections import deque

from replicas.engine import Priority
from replicas.slot.request.sequence import Sequence

AGED_S = 20.0


class Waiting:
    """A two-class queue. Its user holds the lock, and bounds it."""

    def __init__(self) -> None:
        self._interactive: deque[Sequence] = deque()
        self._batch: deque[Sequence] = deque()
        self._was_aged = False

    def __len__(self) -> int:
        return len(self._interactive) + len(self._batch)

    @property
    def interactive(self) -> int:
        return len(self._interactive)

    def put(self, sequence: Sequence) -> None:
        self._line_of(sequence).append(sequence)

    def put_back(self, sequence: Sequence) -> None:
        """One that had been served already: it is the next of its class."""
        self._line_of(sequence).appendleft(sequence)

    def pop(self, now_s: float) -> Sequence | None:
        """The next to be served, None if nobody waits."""
        batch = self._batch
        is_aged = bool(batch) and now_s - batch[0].submitted_s >= AGED_S
        if batch and (not self._interactive or (is_aged and not self._was_aged)):
            self._was_aged = is_aged
            batch[0].is_aged = is_aged
            return batch.popleft()
        self._was_aged = False
        return self._interactive.popleft() if self._interactive else None

    def remove(self, sequence: Sequence) -> None:
        """Take `sequence` out; nothing happens if it does not wait."""
        line = self._line_of(sequence)
        if sequence in line:
            line.remove(sequence)

    def _line_of(self, sequence: Sequence) -> deque[Sequence]:
        return self._batch if sequence.request.priority is Priority.BATCH else self._interactive
