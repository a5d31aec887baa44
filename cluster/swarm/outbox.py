"""How a shard's events leave it: in batches, deltas of one agent merged, at most every `LINGER_S`.

A batch goes when it is 50 ms old or 64 events long, and an empty one every half second: the answer to each says whether
anybody still wants the shard, so a cancelled job frees its slots within that time, however quiet its calls are.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from cluster.swarm.event import Event, EventType

LINGER_S = 0.05
BATCH_EVENTS = 64
HEARTBEAT_S = 0.5

Report: TypeAlias = Callable[[Sequence[Event]], Awaitable[bool]]
"""Takes a batch, journals its outputs, and says whether the shard is still wanted."""


class Outbox:
    """Events on their way to the conductor. One event loop."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._events: list[Event] = []
        self._open_deltas: dict[int, int] = {}  # agent -> its last event here, while that is a delta
        self._ready = asyncio.Event()  # something to send
        self._full = asyncio.Event()  # enough to send at once

    def add(self, event: Event) -> None:
        """Queue `event`. Memory is bounded by the shard's items and the length of their texts: deltas merge."""
        agent = event.agent if event.agent is not None else -1
        place = self._open_deltas.get(agent)
        if event.type is EventType.DELTA and place is not None:
            earlier = self._events[place]
            self._events[place] = replace(earlier, text=(earlier.text or "") + (event.text or ""))
            return
        if event.type is EventType.DELTA:
            self._open_deltas[agent] = len(self._events)
        else:
            self._open_deltas.pop(agent, None)
        self._events.append(event)
        self._ready.set()
        if len(self._events) >= BATCH_EVENTS:
            self._full.set()

    async def pump(self, calls: asyncio.Task[None]) -> bool:
        """Send until `calls` is done and everything is out; False at once if the shard is no longer wanted."""
        calls.add_done_callback(self._wake)
        is_wanted = await self._report(())  # before any call: a shard that starts late may be wanted no more
        while is_wanted and not (calls.done() and not self._events):
            if await _happens(self._ready, HEARTBEAT_S):
                await _happens(self._full, LINGER_S)
            is_wanted = await self._report(self._take(calls.done()))
        return is_wanted

    def _wake(self, _: asyncio.Task[None]) -> None:
        self._ready.set()
        self._full.set()

    def _take(self, is_closing: bool) -> list[Event]:
        batch, self._events = self._events, []
        self._open_deltas.clear()
        if not is_closing:
            self._ready.clear()
            self._full.clear()
        return batch


async def _happens(event: asyncio.Event, within_s: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), within_s)
    except TimeoutError:
        return False
    return True
