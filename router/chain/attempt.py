"""One ask of one backend: its chunks are held back until the answer may go, and then passed on as they come.

It runs in one task from its first byte to its close. The last chunks are kept until the backend's stream is closed and
its end is known, so that whoever has got an answer's end finds it accounted for.
"""

import asyncio
from contextlib import aclosing
from dataclasses import replace
from typing import Protocol

from replicas.engine import Chunk
from replicas.errors import DeadlineExceeded, EngineFailed
from router.chain.backend import Link
from router.chain.failure import failed
from router.chain.gate import Fault, Held


class Outlet(Protocol):
    """Where the answer goes."""

    def admitted(self) -> None:
        """A backend has taken the request; called often."""
        ...

    def claim(self) -> bool:
        """Ask to be the one who answers. False: somebody else is."""
        ...

    async def send(self, chunks: list[Chunk]) -> None:
        """Pass chunks on; waits while the reader is slow."""
        ...


class Attempt:
    """Asks `link` once. `is_open`: the answer is going out, from here and nowhere else."""

    def __init__(self, link: Link, outlet: Outlet) -> None:
        self._link = link
        self._outlet = outlet
        self._held = Held()
        self.is_open = False
        self.is_beaten = False
        self.fault: Fault | None = None
        self.last: list[Chunk] = []
        """What is still to be sent, when `run` has returned."""

    async def run(self, left_s: float, patience_s: float | None) -> None:
        """Ask, and read to the end. Raises ShoalErrors; DeadlineExceeded when nothing may go out after `patience_s`, or
        the answer is not done after `left_s`."""
        wait_s = left_s if patience_s is None else min(left_s, patience_s)
        ends_at_s = asyncio.get_running_loop().time() + left_s
        limit = asyncio.timeout(wait_s)
        try:
            async with limit, aclosing(self._link.backend.ask(left_s)) as stream:
                async for chunks in stream:
                    self._outlet.admitted()
                    if await self._is_done(chunks, limit, ends_at_s):
                        return
        except TimeoutError:
            if not limit.expired():
                raise
            raise DeadlineExceeded(left_s if self.is_open else wait_s) from None
        raise EngineFailed("the answer ended without its last chunk")

    async def _is_done(self, chunks: list[Chunk], limit: asyncio.Timeout, ends_at_s: float) -> bool:
        if not chunks:
            return False
        if self.is_open:
            chunks = _ended(chunks)
        else:
            self._held.add(chunks)
            if not await self._may_open():
                return self.fault is not None
            if not self._outlet.claim():
                self.is_beaten = True
                return True
            limit.reschedule(ends_at_s)
            self.is_open, chunks, self._held = True, self._held.chunks, Held()
        if not self._link.keeps_scores:
            chunks = [replace(chunk, scores=()) for chunk in chunks]
        if chunks[-1].final is None:
            await self._outlet.send(chunks)
            return False
        self.last = chunks
        return True

    async def _may_open(self) -> bool:
        """Whether what is held may go out. Raises what the answer failed with."""
        final, gate = self._held.final, self._link.gate
        if final is not None and (failure := failed(final)) is not None:
            raise failure
        if gate is None:
            return self._held.has_content or final is not None
        if not gate.has_enough(self._held):
            return False
        self.fault = await gate.fault(self._held.prefix())
        return self.fault is None


def _ended(chunks: list[Chunk]) -> list[Chunk]:
    """`chunks` up to and with the first that ends the answer."""
    end = next((i for i, chunk in enumerate(chunks) if chunk.final is not None), len(chunks))
    return chunks[: end + 1]
