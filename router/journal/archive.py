"""The journal on its way into the store: decisions are written behind the answers, by a thread of their own.

What is too old or too much is dropped by the same thread, with the first decision that is written and then once an
hour; until then there may be more. Feedback is written at once; where its decision is still waiting to be written, that
is waited for.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from router.journal.entry import Feedback, JournalEntry
from router.store import Store, WriteBehind
from router.store.write_behind import LIMIT

DAY_S = 86_400.0
PURGE_EVERY_S = 3_600.0
FLUSH_WAIT_S = 2.0
MOST_WAITING = 2 * LIMIT


@dataclass(frozen=True, slots=True)
class Retention:
    """Decisions of so many days are kept, and the newest `rows` of them."""

    days: float
    rows: int = 1_000_000


class Archive:
    """Keeps decisions in `store`. `on_lost` hears how many could not be kept; `closed` is called after the last one was
    written. For any thread."""

    def __init__(
        self,
        store: Store,
        retention: Retention,
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
        if len(self._waiting) >= MOST_WAITING:  # of those that were lost
            self._waiting.clear()
        self._waiting.add(entry.id)
        self._queue.put(entry)

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
        self._store.decisions.add(entries)
        self._waiting.difference_update(entry.id for entry in entries)
        if self._now() >= self._purges_at:
            self._store.decisions.purge(self._now() - self._retention.days * DAY_S, self._retention.rows)
            self._purges_at = self._now() + PURGE_EVERY_S
