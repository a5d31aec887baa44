"""The choices of one answer, made beside each other: the chunks of all in one stream, each with its choice's number.

At most AT_ONCE of them run; if one fails, the others are given up and the answer fails with it.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import TypeAlias

from replicas.engine import Chunk

AT_ONCE = 8
"""Of one request, so that it takes a share of the slots and not all."""

BOX_LISTS = 64
"""So many lists of chunks wait for a slow reader; then the choices wait too."""

Choice: TypeAlias = Callable[[], AsyncGenerator[list[Chunk], None]]
Told: TypeAlias = tuple[int, list[Chunk]]


async def side_by_side(choices: Sequence[Choice]) -> AsyncGenerator[Told, None]:
    """What the choices say, in the order in which they say it. Raises what the first that fails raises."""
    if len(choices) == 1:
        async with aclosing(choices[0]()) as stream:
            async for chunks in stream:
                yield 0, chunks
        return
    box = _Box()
    gate = asyncio.Semaphore(AT_ONCE)
    tasks = [asyncio.create_task(_say(number, choice, gate, box)) for number, choice in enumerate(choices)]
    for task in tasks:
        task.add_done_callback(box.ended)
    left = len(tasks)
    try:
        while left:
            told = await box.get()
            if isinstance(told, asyncio.Task):
                told.result()
                left -= 1
            else:
                yield told
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _say(number: int, choice: Choice, gate: asyncio.Semaphore, box: "_Box") -> None:
    async with gate, aclosing(choice()) as stream:
        async for chunks in stream:
            await box.put((number, chunks))


class _Box:
    """What was told and not yet read: at most BOX_LISTS lists, and each task once when it has ended."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Told | asyncio.Task[None]] = asyncio.Queue()
        self._room = asyncio.Semaphore(BOX_LISTS)

    async def put(self, told: Told) -> None:
        await self._room.acquire()
        self._queue.put_nowait(told)

    def ended(self, task: asyncio.Task[None]) -> None:
        self._queue.put_nowait(task)

    async def get(self) -> Told | asyncio.Task[None]:
        told = await self._queue.get()
        if not isinstance(told, asyncio.Task):
            self._room.release()
        return told
