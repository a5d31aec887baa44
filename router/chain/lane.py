"""A lane tries links one after another, in one task, until one of them answers: retries, breakers, accounts.

A request has one lane, and with a hedge a second one beside it. Both take the next link from the same list, and the
first whose answer may go out is the only one whose answer does.
"""

import asyncio
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from replicas.engine import Chunk
from replicas.errors import DeadlineExceeded, Overloaded, ShoalError, Unavailable
from router.chain.attempt import Attempt
from router.chain.backend import Link
from router.chain.backoff import Retries
from router.chain.breaker import Breaker, Permit
from router.chain.failure import Reason, failed, reading
from router.chain.gate import Fault
from router.chain.tried import Tried

BOX_LISTS = 16
"""So many lists of chunks wait for a slow reader; then the backend waits too."""


@dataclass(slots=True)
class Race:
    """What the lanes of one request share. `box` takes what goes out; an empty list there only wakes the reader."""

    links: deque[Link]
    retries: Retries
    ends_at_s: float
    clock: Callable[[], float]
    chance: random.Random
    breaker: Callable[[str], Breaker]
    observe: Callable[[Tried], None]
    tries: list[Tried] = field(default_factory=list)
    rejected: list[Link] = field(default_factory=list)
    box: asyncio.Queue[list[Chunk]] = field(default_factory=lambda: asyncio.Queue(BOX_LISTS))
    is_admitted: bool = False
    winner: "Lane | None" = None

    @property
    def left_s(self) -> float:
        """Until the deadline."""
        return self.ends_at_s - self.clock()

    def wake(self) -> None:
        """Let the reader look: it waits only while the box is empty."""
        if self.box.empty():
            self.box.put_nowait([])


class Lane:
    """Tries links, and is the outlet of their attempts. `link` is the one that is being tried, or the last one."""

    def __init__(self, race: Race) -> None:
        self._race = race
        self.link: Link | None = None
        self._permit: Permit | None = None
        self._began_s = 0.0
        self._opened_s: float | None = None

    async def run(self) -> None:
        """Returns when the answer is out, or no link is left. Raises what an answer broke with that had begun."""
        race = self._race
        while race.winner is None and race.links and race.left_s > 0:
            await self._try(race.links.popleft())

    def admitted(self) -> None:
        """A backend has taken the request."""
        if not self._race.is_admitted:
            self._race.is_admitted = True
            self._race.wake()

    def claim(self) -> bool:
        """This lane answers, unless the other one does."""
        race = self._race
        if race.winner is None:
            race.winner, self._opened_s = self, race.clock()
            assert self._permit is not None
            self._permit.settle(True)
        return race.winner is self

    async def send(self, chunks: list[Chunk]) -> None:
        """To the reader, at its pace."""
        await self._race.box.put(chunks)

    async def _try(self, link: Link) -> None:
        """Ask one link until it answers, or is not worth another ask."""
        failures = 0
        while True:
            error = await self._ask(link) if self._is_permitted(link) else self._refused(link)
            failures += 1
            wait_s = None if error is None else self._wait_s(error, failures)
            if wait_s is None:
                return
            await asyncio.sleep(wait_s)

    def _is_permitted(self, link: Link) -> bool:
        self.link, self._began_s, self._opened_s = link, self._race.clock(), None
        self._permit = self._race.breaker(link.pool).admit()
        return self._permit is not None

    def _refused(self, link: Link) -> ShoalError | None:
        """What an ask that was not made counts as: a pool that named a time is busy until then, and may be worth a
        wait; for one that keeps failing nobody waits."""
        breaker = self._race.breaker(link.pool)
        wait_s = math.ceil(breaker.wait_s * 1000) / 1000
        if not breaker.is_paused:
            words = f"it kept failing and is left alone; try again in {wait_s:g} s"
            self._close(Reason.OPEN, Unavailable(link.pool, words, wait_s))
            return None
        error = Overloaded(link.pool, wait_s)
        self._close(Reason.OPEN, error)
        return error

    def _wait_s(self, error: ShoalError, failures: int) -> float | None:
        """Seconds until the same link is asked again; None: it is not."""
        race, read = self._race, reading(error)
        if read.next == "nowhere":
            race.links.clear()
        if read.next != "again":
            return None
        wait_s = race.retries.wait_s(failures, read.wanted_s, is_last=not race.links, chance=race.chance)
        return None if wait_s is None or wait_s >= race.left_s else wait_s

    async def _ask(self, link: Link) -> ShoalError | None:
        """One attempt; gives what it failed with before any content, and raises what it failed with after."""
        race, attempt = self._race, Attempt(link, self)
        try:
            await attempt.run(race.left_s, link.patience_s if race.links else None)
        except ShoalError as broken:
            self._fail(broken)
            if attempt.is_open:
                raise
            return broken
        except BaseException:
            # The caller left, the other lane was first, or it is a bug: whatever it is, it is accounted for.
            self._close(Reason.LEFT if race.winner in (None, self) else Reason.BEATEN)
            raise
        if attempt.fault is not None:
            race.rejected.append(link)
            self._close(Reason.REJECTED, fault=attempt.fault)
        elif attempt.is_beaten:
            self._close(Reason.BEATEN)
        else:
            final = attempt.last[-1].final
            error = failed(final) if final is not None else None
            if error is None:
                self._close(Reason.ANSWERED)
            else:
                self._fail(error)
            await self.send(attempt.last)
        return None

    def _fail(self, error: ShoalError) -> None:
        """Count a failure, where it belongs."""
        read = reading(error)
        assert self.link is not None
        assert self._permit is not None
        breaker = self._race.breaker(self.link.pool)
        if read.is_for_all and read.wanted_s is not None:
            breaker.pause(read.wanted_s)
        is_fault = read.is_fault or self._is_slow(error)
        if self._opened_s is None:
            self._permit.settle(False if is_fault else None)
        elif is_fault:
            breaker.fail()
        self._close(read.reason, error)

    def _is_slow(self, error: ShoalError) -> bool:
        """The pool took longer than it may, not just than this caller would wait."""
        patience_s = None if self.link is None else self.link.patience_s
        if patience_s is None or not isinstance(error, DeadlineExceeded):
            return False
        return self._race.clock() - self._began_s >= patience_s

    def _close(self, reason: Reason, error: ShoalError | None = None, fault: Fault | None = None) -> None:
        """The end of a try, in the accounts."""
        link, race = self.link, self._race
        assert link is not None
        cost_usd = 0.0
        if self._permit is not None:
            # Unless it is settled. Whose answer is not good enough is well all the same.
            self._permit.settle(None if fault is None else True)
            cost_usd = link.backend.spent_usd()
        first_s = None if self._opened_s is None else self._opened_s - self._began_s
        tried = Tried(link.pool, reason, error, fault, race.clock() - self._began_s, first_s, cost_usd)
        race.tries.append(tried)
        race.observe(tried)
