"""The journal on its way into the store: decisions are written behind the answers, by a thread of their own.

What is too old or too much is dropped by the same thread, with the first decision that is written and then once an
hour; until then there may be more. Where there is much to drop, each turn drops a part of it; where that fails, what
was written stays, and the next hour has another turn. Feedback is written at once; where its decision is still waiting
to be written, that is waited for.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from replicas.errors import ShoalError
from router.journal.entry import Feedback, JournalEntry
from router.store import Store, WriteBehind

logger = logging.getLogger(__name__)

DAY_S = 86_400.0
PURGE_EVERY_S = 3_600.0
FLUSH_WAIT_S = 2.0
DROPPED_AT_ONCE = 10_000  # more would keep decisions waiting for long


@dataclass(frozen=True, slots=True)
class Retention:
    """Decisions of so many days are kept, and the newest `rows` of them."""

    days: float
    rows: int = 1_000_000


class Archive:
    """Keeps decisions in `store`; without a `retention` another process drops the old ones. `on_lost` hears how many
    could not be kept; `closed` is called after the last one was written. For any thread."""

    def __init__(
        self,
        store: Store,
        retention: Retention | None,
        on_lost: Callable[[int], None],
        now: Callable[[], float] = time.time,
        closed: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._closed = closed
        self._retention = retention
        self._now = now
        self._purges_at = 0.0
        self._queue = WriteBehind[JournalEntry](self._write, on_lost)
        self._waiting: set[str] = set()

    def put(self, entry: JournalEntry) -> None:
        """Have `entry` written soon. Never waits and never raises."""
        self._waiting.add(entry.id)
        if not self._queue.takes(entry):
            self._waiting.discard(entry.id)

    def give(self, id_: str, key_id: str, said: Feedback) -> str | None:
        """Keep what the key `key_id` says of the answer `id_`; who gave that. None: it has got no such answer. Blocks;
        raises Unavailable."""
        if id_ in self._waiting:
            self._queue.flush(FLUSH_WAIT_S)
        return self._store.feedback.give(id_, key_id, said)

    def close(self) -> None:
        """Write what is left."""
        self._queue.close()
        self._closed()

    def _write(self, entries: Sequence[JournalEntry]) -> None:
        is_again = False
        try:
            self._store.decisions.add(entries)
        except ShoalError:
            is_again = True
            raise
        finally:
            if not is_again:
                self._waiting.difference_update(entry.id for entry in entries)
        if self._retention is not None and self._now() >= self._purges_at:
            self._drop(self._retention)

    def _drop(self, retention: Retention) -> None:
        try:
            before = self._now() - retention.days * DAY_S
            if self._store.decisions.purge(before, retention.rows, DROPPED_AT_ONCE) == DROPPED_AT_ONCE:
                return  # there may be more
        except ShoalError as error:
            logger.warning("old decisions could not be dropped: %s", error)
        self._purges_at = self._now() + PURGE_EVERY_S
