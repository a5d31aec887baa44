"""Which requests have run out of time, without looking at all of them at every step."""

import heapq

from replicas.slot.request.sequence import Sequence

# Requests that ended stay in the heap until they would have expired; past this many it is rebuilt.
_REBUILD_AT = 1024


class Deadlines:
    """A heap by expiry. Its user holds the lock."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Sequence]] = []
        self._count = 0
        self._rebuild_at = _REBUILD_AT

    def put(self, sequence: Sequence) -> None:
        self._count += 1  # ties must not compare sequences
        heapq.heappush(self._heap, (sequence.expires_s, self._count, sequence))
        if len(self._heap) >= self._rebuild_at:
            self._heap = [entry for entry in self._heap if not entry[2].is_done]
            heapq.heapify(self._heap)
            self._rebuild_at = max(_REBUILD_AT, 2 * len(self._heap))

    def expired(self, now_s: float) -> list[Sequence]:
        """Take out the requests under way whose time is up."""
        found = []
        while self._heap and self._heap[0][0] <= now_s:
            sequence = heapq.heappop(self._heap)[2]
            if not sequence.is_done:
                found.append(sequence)
        return found
