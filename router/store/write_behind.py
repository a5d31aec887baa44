"""Records to be written, later and by a thread of their own: whoever puts one never waits for the database.

The queue is bounded. What does not fit, and what is left when the store stays away past the end, is lost and counted:
answers matter more than the account of them. A batch that fails stays and is tried again. One that cannot be written at
all is tried record by record, so that one impossible record costs no other.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from sqlalchemy.exc import DataError

from replicas.errors import ShoalError

logger = logging.getLogger(__name__)

T = TypeVar("T")

LIMIT = 10_000
BATCH = 1_000
GATHER_S = 0.2  # records that come within it are written together
RETRY_S = 1.0
CLOSE_WAIT_S = 5.0


class WriteBehind(Generic[T]):
    """`write` gets batches of `batch` records at most, in order, from one thread; it raises ShoalError when they could
    not be written.

    `on_lost` is told how many records were lost, from any thread.
    """

    def __init__(
        self,
        write: Callable[[Sequence[T]], None],
        on_lost: Callable[[int], None],
        limit: int = LIMIT,
        batch: int = BATCH,
    ) -> None:
        self._write = write
        self._on_lost = on_lost
        self._limit = limit
        self._batch = batch
        self._waiting: deque[T] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        self._one_by_one = 0  # so many of those at the front
        self._taken = 0
        self._ended = 0  # written, or lost
        self._thread = threading.Thread(target=self._run, name="write-behind", daemon=True)
        self._thread.start()

    def put(self, record: T) -> None:
        """Have `record` written soon. Never waits and never raises."""
        self.takes(record)

    def takes(self, record: T) -> bool:
        """`put`, and whether there was room for `record`."""
        with self._changed:
            is_taken = len(self._waiting) < self._limit and not self._is_closed
            if is_taken:
                self._waiting.append(record)
                self._taken += 1
                # What the writer waits for; every other one would wake it in vain.
                if len(self._waiting) in (1, self._batch):
                    self._changed.notify_all()
        if not is_taken:
            self._on_lost(1)
        return is_taken

    def flush(self, timeout_s: float) -> bool:
        """Whether all that was put before is written or lost, after `timeout_s` at most. Later ones do not matter."""
        with self._changed:
            before = self._taken
            return self._changed.wait_for(lambda: self._ended >= before, timeout_s)

    def close(self) -> None:
        """Write what is left, for CLOSE_WAIT_S at most, and end the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join(CLOSE_WAIT_S)

    def _run(self) -> None:
        while batch := self._next():
            try:
                self._write(batch)
            except Exception as error:  # a bug in one batch must not end the thread
                if self._keep(batch) if _is_away(error) else self._part(batch):
                    continue
                logger.exception("%d records were lost", len(batch))
                self._on_lost(len(batch))
            self._done(len(batch))

    def _next(self) -> list[T]:
        """The next records; none when there is nothing left to do."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            most = 1 if self._one_by_one else self._batch
            self._changed.wait_for(lambda: len(self._waiting) >= most or self._is_closed, GATHER_S)
            self._one_by_one = max(0, self._one_by_one - 1)
            return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]

    def _keep(self, batch: list[T]) -> bool:
        """Put `batch` back to the front and wait a little; False if there is no more time for it."""
        with self._changed:
            if self._is_closed:
                return False
            self._waiting.extendleft(reversed(batch))
            self._changed.wait_for(lambda: self._is_closed, RETRY_S)
            return True

    def _part(self, batch: Sequence[T]) -> bool:
        """Put `batch` back to the front, to be written record by record; False if it is one record."""
        if len(batch) == 1:
            return False
        with self._changed:
            self._waiting.extendleft(reversed(batch))
            self._one_by_one = len(batch)
        return True

    def _done(self, count: int) -> None:
        with self._changed:
            self._ended += count
            self._changed.notify_all()


def _is_away(error: Exception) -> bool:
    """The store could not be reached, and may be later: not what it refuses because of what was to be written."""
    return isinstance(error, ShoalError) and not isinstance(error.__cause__, DataError)
