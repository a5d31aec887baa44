"""Who waits for a slot: interactive requests before batch ones, each in order of arrival."""

from collections import deque

from replicas.engine import Priority
from replicas.slot.sequence import Sequence


class Waiting:
    """A two-class queue. Its user holds the lock, and bounds it."""

    def __init__(self) -> None:
        self._classes: dict[Priority, deque[Sequence]] = {
            Priority.INTERACTIVE: deque(),
            Priority.BATCH: deque(),
        }

    def __len__(self) -> int:
        return sum(map(len, self._classes.values()))

    def put(self, sequence: Sequence) -> None:
        self._classes[sequence.request.priority].append(sequence)

    def pop(self) -> Sequence | None:
        """The next to be served, None if nobody waits."""
        for waiting in self._classes.values():
            if waiting:
                return waiting.popleft()
        return None

    def remove(self, sequence: Sequence) -> None:
        """Take `sequence` out; nothing happens if it does not wait."""
        waiting = self._classes[sequence.request.priority]
        if sequence in waiting:
            waiting.remove(sequence)
