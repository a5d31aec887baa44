"""The events of one job: a ring of the latest ones, stamped with `seq`, and a pulse that wakes those who wait.

`seq` starts at the epoch's base, one epoch per start of the conductor: what a follower saw before a restart is below
every new event, so it falls behind the ring and gets a snapshot instead of a hole.
"""

import asyncio
from collections import deque
from dataclasses import replace

from cluster.swarm.event import Event

EPOCH_EVENTS = 1_000_000_000  # more than a job can have; 9 million epochs stay within what JSON numbers hold


class Feed:
    """Events of a job in memory. One event loop."""

    def __init__(self, epoch: int, ring_events: int) -> None:
        self.last_seq = epoch * EPOCH_EVENTS
        self._ring: deque[Event] = deque(maxlen=ring_events)
        self._pulse = asyncio.Event()

    def publish(self, event: Event) -> None:
        """Stamp `event`, keep it, wake all who wait."""
        self.last_seq += 1
        self._ring.append(replace(event, seq=self.last_seq))
        self._pulse.set()
        self._pulse = asyncio.Event()

    def after(self, seq: int) -> tuple[Event, ...] | None:
        """The events after `seq`; None if some are gone from the ring, or `seq` was never given out here."""
        first = self.last_seq - len(self._ring)
        if not first <= seq <= self.last_seq:
            return None
        return tuple(self._ring)[seq - first :]

    async def wait(self, wait_s: float) -> None:
        """Return at the next event, or after `wait_s`."""
        pulse = self._pulse
        try:
            await asyncio.wait_for(pulse.wait(), wait_s)
        except TimeoutError:
            return
