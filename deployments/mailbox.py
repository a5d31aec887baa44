"""Where the chunks of one request arrive in the process that asked for them.

Filled by the token streams on the event loop, emptied by the request's own task; a wait has a deadline and costs no
task of its own.
"""

import asyncio

from replicas.engine import Chunk
from replicas.errors import ShoalError


class Mailbox:
    """The chunks of one request since they were last taken."""

    def __init__(self) -> None:
        self._chunks: list[Chunk] = []
        self._error: ShoalError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.is_admitted = False

    def put(self, chunk: Chunk) -> None:
        """A chunk arrived. The first one acknowledges the admission and carries nothing."""
        if chunk.tokens or chunk.text or chunk.final is not None:
            self._chunks.append(chunk)
        self.is_admitted = True
        self._wake()

    def fail(self, error: ShoalError) -> None:
        """Nothing more will come: raise `error` after what has arrived is taken."""
        self._error = self._error or error
        self._wake()

    async def take(self, timeout_s: float) -> list[Chunk]:
        """Everything that arrived, in order; empty after `timeout_s` of silence. Raises what `fail` was given."""
        if not self._chunks and self._error is None:
            await self._wait(timeout_s)
        taken, self._chunks = self._chunks, []
        if not taken and self._error is not None:
            raise self._error
        return taken

    async def _wait(self, timeout_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        alarm = loop.call_later(timeout_s, self._wake)
        try:
            await self._waiter
        finally:
            alarm.cancel()
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
