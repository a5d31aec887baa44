"""Budgets at work in one process; what they hold is in the store, and so common to all processes.

Before a cloud is asked, the worst case is reserved: that waits for the store, in a thread, or is taken from what was
reserved ahead (router/budget/advance.py). Settling does not wait; it goes through a queue, and if it is lost, the worst
case stays taken. Rules see a state that is a second old at most. Where the store does not
answer nothing can be reserved, so everything counts as spent.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, Protocol, TypeAlias
from uuid import uuid4
from weakref import WeakValueDictionary

from replicas.errors import BudgetHeld, BudgetSpent, ShoalError, Unavailable
from router.budget.advance import IDLE_S, USE_S, Advances, Part
from router.budget.budget import Budget, Claim, Reservation, Settlement, Taken, claims_of
from router.budget.money import nano_of, usd_of
from router.budget.payer import Payer

logger = logging.getLogger(__name__)

__all__ = ["Budgets", "Settlement", "State", "no_budgets"]

State: TypeAlias = Literal["ok", "low", "spent"]

LOW = 0.8  # of a limit: a choice
FRESH_S = 1.0
READ_WAIT_S = 1.0
"""Every request waits for the state of its budgets, also one that is answered here."""
READS_AT_ONCE = 2
"""Threads that wait for a store that may be away: others have work for them."""
DAY_S = 86_400
HELD_RETRY_S = IDLE_S
"""When to come again for what calls under way hold: what is reserved ahead and nobody's goes back by then."""
KNOWN = 1_000  # payers whose state is kept
GRACE_S = 60.0  # that a settlement may take to be written


class Till(Protocol):
    """Where the money is. Both block, and raise Unavailable."""

    def reserve(self, reservation: Reservation) -> None:
        """Take from every claim, or raise BudgetSpent and take nothing."""
        ...

    def taken(self, claims: Sequence[Claim], now: float) -> list[Taken]:
        """What is taken of each claim at `now` (seconds since 1970)."""
        ...


@dataclass(frozen=True, slots=True)
class Reading:
    """A read under way, for which requests wait until `until_s`, of the loop's clock."""

    task: asyncio.Task[None]
    until_s: float


@dataclass(slots=True)
class Hold:
    """Money that is held while a cloud is asked; `cost_usd` is what of it was spent."""

    cost_usd: float = 0.0


class Budgets:
    """Says how the budgets stand, and holds money. `settle` must not wait. Lives on one event loop."""

    def __init__(
        self,
        budgets: Sequence[Budget],
        till: Till,
        settle: Callable[[Settlement], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._budgets = tuple(budgets)
        self._till = till
        self._settle = settle
        self._clock = clock
        self._states: dict[tuple[Claim, ...], tuple[float, State]] = {}
        self._known: dict[tuple[Payer, int], tuple[Claim, ...]] = {}
        self._reads: dict[tuple[Claim, ...], Reading] = {}
        self._reading = asyncio.Semaphore(READS_AT_ONCE)
        self._advances = Advances(settle, clock)
        self._reserving: WeakValueDictionary[tuple[Claim, ...], asyncio.Lock] = WeakValueDictionary()

    def is_limited(self, payer: Payer) -> bool:
        """Whether anything limits what `payer` spends."""
        return bool(self._claims(payer))

    async def state(self, payer: Payer) -> State:
        """How the tightest budget of `payer` stands. A store that does not say it within READ_WAIT_S is not waited for:
        then it is as it was last, or spent if nobody knows."""
        claims = self._claims(payer)
        if not claims:
            return "ok"
        if self._is_stale(claims):
            await self._refreshed(claims)
        return self._states.get(claims, (0.0, "spent"))[1]

    @asynccontextmanager
    async def held(self, payer: Payer, worst_usd: float, deadline_s: float) -> AsyncGenerator[Hold, None]:
        """`worst_usd` of the budgets of `payer`, for the length of a block that calls a cloud for `deadline_s` at most,
        and says in `cost_usd` what that has cost, also when it fails: 0 gives all of it back. A price that nobody knows
        is infinite. Raises BudgetSpent, BudgetHeld, Unavailable."""
        claims, hold = self._claims(payer), Hold()
        if not claims:
            yield hold
            return
        part = await self._part(claims, nano_of(worst_usd), self._clock() + deadline_s + GRACE_S)
        try:
            yield hold
        finally:
            self._advances.given_back(part, nano_of(hold.cost_usd))

    def close(self) -> None:
        """Give back what was reserved ahead. No request holds anything any more."""
        for reading in list(self._reads.values()):
            reading.task.cancel()
        self._advances.close()

    async def _part(self, claims: tuple[Claim, ...], nano: int, until: float) -> Part:
        """`nano` of `claims` for a request that ends before `until`. One of a payer's requests at a time asks the
        store: what it reserves ahead may do for the others."""
        self._advances.begun(claims)
        found = self._advances.taken(claims, nano, until)
        if found is not None:
            return found
        async with self._reserving.setdefault(claims, asyncio.Lock()):
            found = self._advances.taken(claims, nano, until)
            return found or self._advances.opened(await self._reserved(claims, nano, until), nano)

    async def _reserved(self, claims: tuple[Claim, ...], nano: int, until: float) -> Reservation:
        """`nano` or more. Where there is no room for more, it is `nano`."""
        worth_nano = self._advances.worth_nano(claims, nano)
        if worth_nano > nano:
            try:
                return await self._reserve(Reservation(uuid4().hex, worth_nano, until + USE_S, claims))
            except BudgetSpent:
                pass
        try:
            return await self._reserve(Reservation(uuid4().hex, nano, until, claims))
        except BudgetSpent as refused:
            raise await self._refusal(claims, nano) from refused

    async def _refusal(self, claims: tuple[Claim, ...], nano: int) -> BudgetSpent | BudgetHeld:
        """What to tell who wants `nano` of `claims`, which have no room for it now: that it is spent, or comes back."""
        now = self._clock()
        return refusal(claims, await asyncio.to_thread(self._till.taken, claims, now), nano)

    async def _reserve(self, reservation: Reservation) -> Reservation:
        taking = asyncio.ensure_future(asyncio.to_thread(self._till.reserve, reservation))
        try:
            await asyncio.shield(taking)
        except asyncio.CancelledError:
            taking.add_done_callback(lambda done: self._give_back(done, reservation))
            raise
        return reservation

    def _give_back(self, done: "asyncio.Future[None]", reservation: Reservation) -> None:
        """Who asked has left while the store was at it."""
        if not done.cancelled() and done.exception() is None:
            self._settle(Settlement(reservation, 0))

    def _claims(self, payer: Payer) -> tuple[Claim, ...]:
        """What `payer` takes from today; found once a day, since each request asks several times."""
        day = int(self._clock() // DAY_S)
        found = self._known.get((payer, day))
        if found is None:
            if len(self._known) >= KNOWN:
                self._known.clear()
            today = datetime.fromtimestamp(day * DAY_S, UTC).date()
            found = self._known[payer, day] = claims_of(self._budgets, payer, today)
        return found

    def _is_stale(self, claims: tuple[Claim, ...]) -> bool:
        found = self._states.get(claims)
        return found is None or self._clock() - found[0] > FRESH_S

    async def _refreshed(self, claims: tuple[Claim, ...]) -> None:
        """Read the state of `claims`, or wait for who reads it: until READ_WAIT_S after that has begun."""
        now_s = asyncio.get_running_loop().time()
        reading = self._reads.get(claims)
        if reading is None:
            reading = self._reads[claims] = Reading(asyncio.create_task(self._read(claims)), now_s + READ_WAIT_S)
            reading.task.add_done_callback(lambda _: self._reads.pop(claims, None))
        done, _ = await asyncio.wait({reading.task}, timeout=max(0.0, reading.until_s - now_s))
        for read in done:
            read.result()

    async def _read(self, claims: tuple[Claim, ...]) -> None:
        try:
            async with self._reading:
                state = worst(claims, await asyncio.to_thread(self._till.taken, claims, self._clock()))
        except ShoalError as error:
            logger.warning("the budgets could not be read: %s", error)
            state = "spent"
        if len(self._states) >= KNOWN:
            self._states.clear()
        self._states[claims] = (self._clock(), state)


class _NoTill:
    """No money is anywhere."""

    def reserve(self, reservation: Reservation) -> None:
        raise Unavailable("a store for budgets")

    def taken(self, claims: Sequence[Claim], now: float) -> list[Taken]:
        raise Unavailable("a store for budgets")


def no_budgets() -> Budgets:
    """For a process that keeps none: whatever is asked costs as much as it costs."""
    return Budgets((), _NoTill(), lambda _: None)


def worst(claims: Sequence[Claim], taken: Sequence[Taken]) -> State:
    """The state of the claim of which the most is taken; `spent` only if it does not come back."""
    if any(one.spent_nano >= claim.limit_nano for claim, one in zip(claims, taken, strict=True)):
        return "spent"
    is_low = any(one.nano >= LOW * claim.limit_nano for claim, one in zip(claims, taken, strict=True))
    return "low" if is_low else "ok"


def refusal(claims: Sequence[Claim], taken: Sequence[Taken], nano: int) -> BudgetSpent | BudgetHeld:
    """Why `nano` cannot be had of `claims`: one of them has not so much that is not spent, or calls under way hold
    it."""
    for claim, one in zip(claims, taken, strict=True):
        left_nano = claim.limit_nano - one.spent_nano
        if nano > left_nano:
            return BudgetSpent(claim.account, usd_of(max(0, left_nano)), usd_of(nano))
    claim, one = min(zip(claims, taken, strict=True), key=lambda pair: pair[0].limit_nano - pair[1].nano)
    return BudgetHeld(claim.account, usd_of(one.held_nano), HELD_RETRY_S)
