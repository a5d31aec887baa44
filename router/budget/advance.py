"""Money reserved ahead for those who ask often, so that not each of their requests waits for the store.

Who has begun BUSY requests within WINDOW_S gets an advance: one reservation for as many of that size as there were,
AHEAD at most. Requests take their worst case out of it in memory, and put back what they did not spend. It is reserved
in the store like any other, so no limit is ever passed; but at most the part SHARE of a limit is in an advance, and
what nobody has goes back when nobody took from it for IDLE_S, however long a request has its part, so that nobody is
refused for long what is still there.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from router.budget.budget import Claim, Reservation, Settlement

BUSY = 8
AHEAD = 64
WINDOW_S = 10.0
USE_S = 10.0
"""So much later than the request that it is reserved for may another one end that takes from it."""
IDLE_S = 2.0
SHARE = 1 / 64
KNOWN = 1_000
"""Payers whose pace is remembered."""

Claims: TypeAlias = tuple[Claim, ...]


@dataclass(slots=True)
class Advance:
    """A reservation for several requests: `free_nano` of it are nobody's, requests have the rest."""

    reservation: Reservation
    free_nano: int
    ending: asyncio.TimerHandle | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """What one request holds: `nano` of an advance, or a reservation of its own."""

    reservation: Reservation
    nano: int
    advance: Advance | None = None


class Advances:
    """The advances of one process. `settle` must not wait. For one event loop, whose timers it uses."""

    def __init__(self, settle: Callable[[Settlement], None], clock: Callable[[], float]) -> None:
        self._settle = settle
        self._clock = clock
        self._open: dict[Claims, Advance] = {}
        self._begun: dict[Claims, deque[float]] = {}

    def begun(self, claims: Claims) -> None:
        """A request begins that takes from `claims`."""
        if claims not in self._begun and len(self._begun) >= KNOWN:
            self._begun.clear()
        self._begun.setdefault(claims, deque(maxlen=AHEAD)).append(self._clock())

    def taken(self, claims: Claims, nano: int, until: float) -> Part | None:
        """`nano` out of the advance of `claims`, for a request that ends before `until`; None: it has not so much."""
        advance = self._open.get(claims)
        if advance is None or advance.free_nano < nano or advance.reservation.ends_at < until:
            return None
        return self._part(advance, nano)

    def worth_nano(self, claims: Claims, nano: int) -> int:
        """How much to reserve for a request that wants `nano` and those that will come after it: `nano` or more."""
        since_s = self._clock() - WINDOW_S
        recent = sum(at >= since_s for at in self._begun.get(claims, ()))
        most = int(min(claim.limit_nano for claim in claims) * SHARE)
        return max(nano, min(nano * recent, most)) if recent >= BUSY else nano

    def opened(self, reservation: Reservation, nano: int) -> Part:
        """The first `nano` of `reservation`; what is more is for the requests that come next."""
        if reservation.nano == nano:
            return Part(reservation, nano)
        earlier = self._open.get(reservation.claims)
        if earlier is not None:
            self._end(earlier)
        advance = self._open[reservation.claims] = Advance(reservation, reservation.nano)
        return self._part(advance, nano)

    def given_back(self, part: Part, cost_nano: int) -> None:
        """A request has ended, and has cost so much."""
        advance = part.advance
        if advance is None:
            self._settle(Settlement(part.reservation, cost_nano))
            return
        is_open = self._open.get(part.reservation.claims) is advance
        frees_nano = min(cost_nano, part.nano) if is_open else part.nano
        advance.free_nano += part.nano - frees_nano
        self._settle(Settlement(part.reservation, cost_nano, frees_nano))

    def close(self) -> None:
        """Give back what nobody holds."""
        for advance in list(self._open.values()):
            self._end(advance)

    def _part(self, advance: Advance, nano: int) -> Part:
        """`nano` out of `advance`, which is idle from now on if nobody else takes from it."""
        advance.free_nano -= nano
        if advance.ending is not None:
            advance.ending.cancel()
        advance.ending = asyncio.get_running_loop().call_later(IDLE_S, self._end, advance)
        return Part(advance.reservation, nano, advance)

    def _end(self, advance: Advance) -> None:
        """Nobody takes from it any more: what is nobody's goes back now, each part when its request ends."""
        if advance.ending is not None:
            advance.ending.cancel()
        if self._open.get(advance.reservation.claims) is advance:
            del self._open[advance.reservation.claims]
        if advance.free_nano:
            self._settle(Settlement(advance.reservation, 0, advance.free_nano))
            advance.free_nano = 0
