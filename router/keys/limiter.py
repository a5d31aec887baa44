"""The limits of keys: requests and tokens a minute by token buckets, requests at once by counting.

A bucket holds a minute's worth and fills steadily. How many tokens an answer will have nobody knows before, so a
request needs only that some are left; what it takes past zero the next ones wait for. Nothing here waits: past a limit
the caller gets LimitReached with the time after which it will not. For one thread or event loop.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from replicas.errors import LimitReached
from router.keys.key import Key

MINUTE_S = 60.0
CONCURRENCY_RETRY_S = 1.0  # a guess: nobody knows when an answer ends


class Bucket:
    """`per_minute` of something, at most so many at once."""

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._level = float(per_minute)
        self._filled_s = clock()

    def wait_s(self, amount: float) -> float:
        """Seconds until `amount` is there; 0 if it is."""
        self._fill()
        return max(0.0, (amount - self._level) * MINUTE_S / self._per_minute)

    def take(self, amount: float) -> None:
        """Take `amount`, also of what is not there yet."""
        self._fill()
        self._level -= amount

    def _fill(self) -> None:
        now_s = self._clock()
        self._level += (now_s - self._filled_s) * self._per_minute / MINUTE_S
        self._level = min(self._level, float(self._per_minute))
        self._filled_s = now_s


class Meter:
    """What one key has used of its limits."""

    def __init__(self, key: Key, clock: Callable[[], float]) -> None:
        limits = key.limits
        self._limits = limits
        self._requests = Bucket(limits.requests_per_minute, clock) if limits.requests_per_minute else None
        self._tokens = Bucket(limits.tokens_per_minute, clock) if limits.tokens_per_minute else None
        self.inside = 0

    def check(self) -> None:
        """Raises LimitReached if one more request is too much."""
        limits = self._limits
        if limits.concurrency is not None and self.inside >= limits.concurrency:
            raise LimitReached(f"{limits.concurrency} requests at once", CONCURRENCY_RETRY_S)
        if self._requests and (wait_s := self._requests.wait_s(1.0)):
            raise LimitReached(f"{limits.requests_per_minute} requests a minute", wait_s)
        if self._tokens and (wait_s := self._tokens.wait_s(1.0)):
            raise LimitReached(f"{limits.tokens_per_minute} tokens a minute", wait_s)

    def begin(self) -> None:
        """A request is let in."""
        self.inside += 1
        if self._requests:
            self._requests.take(1.0)

    def add(self, requests: int) -> None:
        """A request that is inside is worth so many more."""
        if self._requests:
            self._requests.take(requests)

    def spend(self, tokens: int) -> None:
        """Tokens are used."""
        if self._tokens:
            self._tokens.take(tokens)


class Limiter:
    """The meters of all keys; what they show is lost at a restart."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._meters: dict[str, Meter] = {}

    @contextmanager
    def admitted(self, key: Key) -> Iterator[None]:
        """One request of `key`, for the length of a `with` block. Raises LimitReached."""
        meter = self._meter(key)
        meter.check()
        meter.begin()
        try:
            yield
        finally:
            meter.inside -= 1

    def add(self, key: Key, requests: int) -> None:
        """A request of `key` asks for several answers, and counts as `requests` more."""
        self._meter(key).add(requests)

    def spend(self, key: Key, tokens: int) -> None:
        """`tokens` of a prompt or an answer, used by `key`."""
        self._meter(key).spend(tokens)

    def _meter(self, key: Key) -> Meter:
        if key.id not in self._meters:
            self._meters[key.id] = Meter(key, self._clock)
        return self._meters[key.id]
