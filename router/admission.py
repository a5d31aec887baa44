"""Bounded admission: at most `limit` requests inside; past it Overloaded, with a time to come back that is earned.

Places come free at the rate at which requests have left since the pool was last less than half full: what left a quiet
pool says nothing of how fast a full one is. Each caller who is turned away is promised the next free
place that nobody was promised yet, so a burst of a hundred comes back one after another and not as the same burst. A
promise is advice: whoever comes first gets the place. For one thread or event loop; nothing here waits.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from replicas.errors import Overloaded

RETRY_MIN_S = 1.0
RETRY_MAX_S = 60.0
RECENT = 32
"""The rate is that of at most so many last departures."""


class Admission:
    """The door of `pool`. `limit` is at least 1."""

    def __init__(self, pool: str, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        assert limit >= 1
        self.pool = pool
        self.limit = limit
        self.inside = 0
        self._clock = clock
        self._busy_since_s = 0.0
        self._departures_s: deque[float] = deque(maxlen=RECENT)
        self._promised_until_s = 0.0

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Be inside for the length of a `with` block. Raises Overloaded when the place is full."""
        self.enter()
        try:
            yield
        finally:
            self.leave()

    def enter(self) -> None:
        """Take a place; every `enter` that returns needs one `leave`. Raises Overloaded."""
        if self.inside >= self.limit:
            raise self.refusal()
        self.inside += 1
        if self.inside == (self.limit + 1) // 2:
            self._busy_since_s = self._clock()
            self._departures_s.clear()

    def refusal(self) -> Overloaded:
        """What to tell one who is turned away."""
        return Overloaded(self.pool, self._promise_s())

    def leave(self) -> None:
        """Give the place back, however the request ended."""
        assert self.inside > 0, "leave() without enter()"
        self.inside -= 1
        self._departures_s.append(self._clock())

    def _promise_s(self) -> float:
        now_s = self._clock()
        free_at_s = max(now_s, self._promised_until_s) + self._departure_interval_s(now_s)
        self._promised_until_s = min(free_at_s, now_s + RETRY_MAX_S)
        return round(min(max(free_at_s - now_s, RETRY_MIN_S), RETRY_MAX_S), 1)

    def _departure_interval_s(self, now_s: float) -> float:
        """Seconds per departure. The span reaches up to now, so that a stall lengthens it."""
        count = len(self._departures_s)
        since_s = self._departures_s[0] if count == RECENT else self._busy_since_s
        return (now_s - since_s) / max(count, 1)
