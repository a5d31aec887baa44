"""The journal on its way into the store: decisions are worded and written behind the answers, by threads of their own.

One words them, as they come, so that no request is held in memory while the store is away; the other writes the rows.
What is too old or too much is dropped by the latter, with the first decision that is written and then once an hour;
until then there may be more. Where there is much to drop, each turn drops a part of it; where that fails, what was
written stays, and the next hour has another turn. Feedback is written at once; where its decision is still waiting to
be written, that is waited for.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from replicas.errors import ShoalError
from router.journal.entry import Feedback, JournalEntry
from router.journal.session import KEYED_BY, sealed
from router.store import Kept, Store, WriteBehind

logger = logging.getLogger(__name__)

DAY_S = 86_400.0
PURGE_EVERY_S = 3_600.0
FLUSH_WAIT_S = 2.0
DROPPED_AT_ONCE = 10_000  # more would keep decisions waiting for long


@dataclass(frozen=True, slots=True)
class Retention:
    """Decisions of so many days are kept, and the newest `rows` of them. Those of `experiments`, which are under way,
    stay for `experiment_days` where that is longer, and as many rows of them again: a comparison that began earlier
    than the journal would not hold."""

    days: float
    rows: int = 1_000_000
    experiments: tuple[str, ...] = ()
    experiment_days: float = 180.0

    def at(self, now: float) -> Kept:
        """What is kept at `now` (seconds since 1970)."""
        longest = max(self.days, self.experiment_days)
        return Kept(now - self.days * DAY_S, self.rows, self.experiments, now - longest * DAY_S)


@dataclass(frozen=True, slots=True)
class Unworded:
    """The row `id`, which `word` makes."""

    id: str
    word: Callable[[], JournalEntry]


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
        self._secret = b""
        self._rows = WriteBehind[JournalEntry](self._write, on_lost)
        self._unworded = WriteBehind[Unworded](self._word, on_lost, batch=1)
        self._waiting: set[str] = set()

    def put(self, id_: str, word: Callable[[], JournalEntry]) -> None:
        """Have the row `id_` worded and written soon. Never waits and never raises."""
        self._waiting.add(id_)
        if not self._unworded.takes(Unworded(id_, word)):
            self._waiting.discard(id_)

    def give(self, id_: str, key_id: str, said: Feedback) -> str | None:
        """Keep what the key `key_id` says of the answer `id_`; who gave that. None: it has got no such answer. Blocks;
        raises Unavailable."""
        if id_ in self._waiting and self._unworded.flush(FLUSH_WAIT_S):
            self._rows.flush(FLUSH_WAIT_S)
        return self._store.feedback.give(id_, key_id, said)

    def close(self) -> None:
        """Write what is left."""
        self._unworded.close()
        self._rows.close()
        self._closed()

    def _word(self, ended: Sequence[Unworded]) -> None:
        for one in ended:
            is_put = False
            try:
                is_put = self._rows.takes(one.word())
            finally:
                if not is_put:
                    self._waiting.discard(one.id)

    def _write(self, entries: Sequence[JournalEntry]) -> None:
        is_again = False
        try:
            self._store.decisions.add(self._sealed(entries))
        except ShoalError:
            is_again = True
            raise
        finally:
            if not is_again:
                self._waiting.difference_update(entry.id for entry in entries)
        if self._retention is not None and self._now() >= self._purges_at:
            self._drop(self._retention)

    def _sealed(self, entries: Sequence[JournalEntry]) -> list[JournalEntry]:
        self._secret = self._secret or self._store.secrets.of(KEYED_BY)
        return [replace(entry, session=sealed(entry.session, self._secret)) for entry in entries]

    def _drop(self, retention: Retention) -> None:
        try:
            if self._store.decisions.purge(retention.at(self._now()), DROPPED_AT_ONCE) == DROPPED_AT_ONCE:
                return  # there may be more
        except ShoalError as error:
            logger.warning("old decisions could not be dropped: %s", error)
        self._purges_at = self._now() + PURGE_EVERY_S
