"""Where a replica's chunks wait for the client they belong to.

The engine's thread puts chunks in; the client's token stream takes out everything that has gathered since it last
looked, so one item crosses the wire per engine step however many requests are under way. An outbox is bounded by what
its requests may generate; one that nobody drains is dropped with its requests (see `replica`).
"""

import asyncio
import threading
from collections import deque

from replicas.engine import Chunk, Final, TokenScore

WireChunk = tuple[str, str, int, Final | None, tuple[TokenScore, ...]]
"""A chunk as it crosses the wire: id, text, tokens, final, scores. Plain tuples pickle in a third of a dataclass's
time, and scores that nobody asked for are one byte."""


class Outbox:
    """Chunks for one client. `put` may be called from any thread, `take` from the loop it was made on."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._items: deque[WireChunk] = deque()
        self._ready = asyncio.Event()
        self._is_signalled = False
        self._lock = threading.Lock()
        self.reader = 0

    def open(self) -> int:
        """The number of a new reader. Whoever read before gets nothing more: a broken stream may outlive its heir."""
        self.reader += 1
        self._ready.set()
        return self.reader

    def put(self, chunk: Chunk) -> None:
        """Add a chunk; wakes the reader once per batch, not per chunk."""
        with self._lock:
            self._items.append((chunk.id, chunk.text, chunk.tokens, chunk.final, chunk.scores))
            should_wake = not self._is_signalled
            self._is_signalled = True
        if should_wake and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ready.set)

    async def take(self, reader: int) -> list[WireChunk]:
        """Wait until there is something, and take all of it; empty once `reader` is not the latest any more."""
        while True:
            await self._ready.wait()
            if reader != self.reader:
                return []
            with self._lock:
                self._ready.clear()
                self._is_signalled = False
                taken = list(self._items)
                self._items.clear()
            if taken:
                return taken
