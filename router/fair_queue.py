"""Whose turn is it? Start-time fair queueing (Goyal, Vin, Cheng 1996) between keys, interactive work before batch work.

A request starts in virtual time where its key's last one ended, or now; it ends `cost / weight` later; the earliest
start goes first. So a key that asks for much waits behind its own requests, and none behind another's. Batch work goes
when no interactive work waits; interactive work does not wait for batch work that runs: the engine preempts that. Batch
work that has waited for PATIENCE_S counts as interactive, so nobody starves.

The room to wait in is bounded. When it is full, the last request of the key that has the most in here for its weight is
refused: no key takes all the room. For one event loop.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from replicas.engine import Priority
from replicas.errors import DeadlineExceeded, Overloaded

PATIENCE_S = 30.0  # a choice: about when somebody who watches a batch job begins to wonder


@dataclass(frozen=True, slots=True)
class Ask:
    """A request for a turn, by a key that has `weight`. `cost` is in any unit, the same for all; `deadline_s` is the
    longest wait."""

    key: str
    weight: float
    cost: float
    priority: Priority
    deadline_s: float


@dataclass(frozen=True, slots=True)
class Room:
    """How many may run, and how many may wait. `most` run if interactive ones came while batch ones were running."""

    running: int
    most: int
    waiting: int


@dataclass(eq=False, slots=True)
class _Place:
    ask: Ask
    start: float
    since_s: float
    is_batch: bool
    is_running: bool = False
    granted: "asyncio.Future[None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class FairQueue:
    """Turns at something that works on many requests at once. `refusal` makes the error of a request that is turned
    away."""

    def __init__(
        self, room: Room, refusal: Callable[[], Overloaded], clock: Callable[[], float] = time.monotonic
    ) -> None:
        assert 1 <= room.running <= room.most
        self._room = room
        self._refusal = refusal
        self._clock = clock
        self._waiting: list[_Place] = []  # in the order of their starts, and of arrival where those are the same
        self._ends: dict[str, float] = {}
        self._virtual = 0.0
        self._running: Counter[bool] = Counter()  # by whether it is batch work
        self._held: Counter[str] = Counter()  # what runs, by key

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._waiting)

    @asynccontextmanager
    async def turn(self, ask: Ask) -> AsyncGenerator[None, None]:
        """Wait for a turn, and have it for the length of the block. Raises Overloaded, DeadlineExceeded."""
        place = self._enter(ask)
        try:
            async with asyncio.timeout(ask.deadline_s):
                await place.granted
        except TimeoutError:
            self._leave(place)
            raise DeadlineExceeded(ask.deadline_s) from None
        except BaseException:
            self._leave(place)
            raise
        try:
            yield
        finally:
            self._leave(place)

    def _enter(self, ask: Ask) -> _Place:
        start = max(self._virtual, self._ends.get(ask.key, 0.0))
        self._ends[ask.key] = start + ask.cost / ask.weight
        place = _Place(ask, start, self._clock(), ask.priority is Priority.BATCH)
        self._waiting.append(place)
        self._waiting.sort(key=lambda waiting: waiting.start)
        self._grant()
        if len(self._waiting) > self._room.waiting:
            self._refuse_one(ask.key)
        return place

    def _refuse_one(self, newest: str) -> None:
        """Turn away the last of the key that has the most in here; of `newest` where others have as much."""
        weights = {place.ask.key: place.ask.weight for place in self._waiting}
        held = self._held + Counter(place.ask.key for place in self._waiting)
        key = max(weights, key=lambda key: (held[key] / weights[key], key == newest))
        last = next(place for place in reversed(self._waiting) if place.ask.key == key)
        self._waiting.remove(last)
        self._ends[key] -= last.ask.cost / last.ask.weight
        if not last.granted.done():
            last.granted.set_exception(self._refusal())
            last.granted.exception()  # who was cancelled at the same time never asks for it

    def _grant(self) -> None:
        while (place := self._next()) is not None:
            self._waiting.remove(place)
            self._virtual = max(self._virtual, place.start)
            place.is_running = True
            self._running[place.is_batch] += 1
            self._held[place.ask.key] += 1
            if not place.granted.done():
                place.granted.set_result(None)

    def _next(self) -> _Place | None:
        """Whose turn it is, if there is a turn."""
        total = self._running.total()
        if self._running[False] >= self._room.running or total >= self._room.most:
            return None
        now_s = self._clock()
        for place in self._waiting:
            if place.is_batch and now_s - place.since_s > PATIENCE_S:
                place.is_batch = False
                return place
        hurried = next((place for place in self._waiting if not place.is_batch), None)
        return hurried or (self._waiting[0] if self._waiting and total < self._room.running else None)

    def _leave(self, place: _Place) -> None:
        if place.is_running:
            self._running[place.is_batch] -= 1
            self._held[place.ask.key] -= 1
        elif place in self._waiting:
            self._waiting.remove(place)
        self._grant()
        if not self._waiting and not self._running.total():
            self._ends.clear()
            self._held.clear()
            self._virtual = 0.0
