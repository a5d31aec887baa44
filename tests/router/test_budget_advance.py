"""Money reserved ahead: the store is asked seldom, its limits hold all the same, and what nobody used comes back."""

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from replicas.errors import BudgetHeld, BudgetSpent
from router.budget import Budget, Budgets, Claim, Payer, Reservation
from router.budget.advance import AHEAD, BUSY, SHARE
from router.budget.budget import Settlement, Taken
from router.budget.money import nano_of, usd_of
from router.store import Store, StoreAddress, open_store

PERIOD = "1970-01-12"
WORST_USD, COST_USD = 0.001, 0.0004


class Till:
    """The store's, which notes what is asked of it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.reserved: list[Reservation] = []

    def reserve(self, reservation: Reservation) -> None:
        self._store.budgets.reserve(reservation)
        self.reserved.append(reservation)

    def taken(self, claims: Sequence[Claim], now: float) -> list[Taken]:
        return self._store.budgets.taken(claims, now)


class Rig:
    """Budgets of which one allows `limit_usd`, on SQLite, settled at once, with a clock that stands."""

    def __init__(self, folder: Path, limit_usd: float) -> None:
        self.store = open_store(StoreAddress.of_file(folder / "shoal.sqlite"))
        self.till = Till(self.store)
        self.now = 1_000_000.0
        self.most_nano = 0
        self.given_back = asyncio.Event()
        """The rest of an advance was."""
        budget = Budget("all", nano_of(limit_usd))
        self.budgets = Budgets((budget,), self.till, self._settle, lambda: self.now)

    @property
    def taken_nano(self) -> int:
        return self.store.budgets.accounts([PERIOD]).get(("all", PERIOD), 0)

    async def ask(self, cost_usd: float = COST_USD, worst_usd: float = WORST_USD, deadline_s: float = 10.0) -> None:
        async with self.budgets.held(Payer(), worst_usd, deadline_s) as hold:
            await asyncio.sleep(0)
            self.most_nano = max(self.most_nano, self.taken_nano)
            hold.cost_usd = cost_usd

    def _settle(self, settlement: Settlement) -> None:
        self.store.budgets.settle([settlement])
        if settlement.frees_nano and settlement.cost_nano == 0:
            self.given_back.set()


def test_who_asks_seldom_reserves_each_time_what_the_request_may_cost(tmp_path: Path) -> None:
    rig = Rig(tmp_path, 1000)

    async def asks() -> None:
        for _ in range(2 * BUSY):
            await rig.ask()
            rig.now += 5.0

    asyncio.run(asks())
    assert [one.nano for one in rig.till.reserved] == [nano_of(WORST_USD)] * (2 * BUSY)
    assert rig.taken_nano == 2 * BUSY * nano_of(COST_USD)


@pytest.mark.parametrize("at_once", [1, 20])
def test_who_asks_often_waits_for_the_store_seldom_and_pays_what_it_cost(tmp_path: Path, at_once: int) -> None:
    rig = Rig(tmp_path, 1000)

    async def asks() -> None:
        for _ in range(200 // at_once):
            await asyncio.gather(*(rig.ask() for _ in range(at_once)))
        rig.budgets.close()

    asyncio.run(asks())
    assert len(rig.till.reserved) < 2 * BUSY
    assert max(one.nano for one in rig.till.reserved) <= AHEAD * nano_of(WORST_USD)
    assert rig.taken_nano == 200 * nano_of(COST_USD)


def test_what_nobody_uses_goes_back_by_itself(tmp_path: Path) -> None:
    rig = Rig(tmp_path, 1000)

    async def asks() -> int:
        await asyncio.gather(*(rig.ask() for _ in range(2 * BUSY)))
        held_nano = rig.taken_nano
        async with asyncio.timeout(30):
            await rig.given_back.wait()
        return held_nano

    assert asyncio.run(asks()) > 2 * BUSY * nano_of(COST_USD)
    assert rig.taken_nano == 2 * BUSY * nano_of(COST_USD)


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_long_request_keeps_its_own_part_and_nothing_else(tmp_path: Path, *, is_replaced: bool) -> None:
    rig = Rig(tmp_path, 1000)

    async def asks() -> tuple[bool, int]:
        await asyncio.gather(*(rig.ask() for _ in range(2 * BUSY)))
        before = len(rig.till.reserved)
        async with rig.budgets.held(Payer(), WORST_USD, 10), asyncio.timeout(30):
            if is_replaced:
                await rig.ask(deadline_s=600)
            await rig.given_back.wait()
            if is_replaced:
                rig.budgets.close()
            return len(rig.till.reserved) == before + is_replaced, rig.taken_nano

    assert asyncio.run(asks()) == (True, (2 * BUSY + is_replaced) * nano_of(COST_USD) + nano_of(WORST_USD))
    assert rig.taken_nano == (2 * BUSY + is_replaced) * nano_of(COST_USD)


def test_no_more_than_a_small_part_of_a_limit_is_reserved_ahead(tmp_path: Path) -> None:
    rig = Rig(tmp_path, 0.2)

    async def asks() -> None:
        await asyncio.gather(*(rig.ask() for _ in range(60)))
        rig.budgets.close()

    asyncio.run(asks())
    assert max(one.nano for one in rig.till.reserved) <= nano_of(0.2 * SHARE)
    assert rig.taken_nano == 60 * nano_of(COST_USD)


def test_a_request_that_may_last_longer_than_the_advance_reserves_anew(tmp_path: Path) -> None:
    rig = Rig(tmp_path, 1000)

    async def asks() -> None:
        await asyncio.gather(*(rig.ask() for _ in range(2 * BUSY)))
        before = len(rig.till.reserved)
        await rig.ask(deadline_s=600)
        assert len(rig.till.reserved) == before + 1
        assert rig.till.reserved[-1].ends_at > rig.now + 600
        rig.budgets.close()

    asyncio.run(asks())
    assert rig.taken_nano == (2 * BUSY + 1) * nano_of(COST_USD)


def test_an_answer_that_costs_more_than_it_may_is_counted_whole(tmp_path: Path) -> None:
    rig = Rig(tmp_path, 1000)

    async def asks() -> None:
        await asyncio.gather(*(rig.ask(cost_usd=5 * WORST_USD) for _ in range(4 * BUSY)))
        rig.budgets.close()

    asyncio.run(asks())
    assert rig.taken_nano == 4 * BUSY * nano_of(5 * WORST_USD)


@pytest.mark.parametrize("seed", range(6))
def test_however_requests_come_no_limit_is_passed_and_each_cent_is_accounted_for(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    limit_usd = chance.choice((0.05, 0.2, 1.0))
    rig, spent = Rig(tmp_path, limit_usd), [0]

    async def one(worst_usd: float) -> None:
        cost_usd = usd_of(int(chance.random() * nano_of(worst_usd)))
        try:
            await rig.ask(cost_usd, worst_usd)
        except (BudgetSpent, BudgetHeld):
            return
        spent[0] += nano_of(cost_usd)

    async def asks() -> None:
        for _ in range(6):
            await asyncio.gather(*(one(chance.uniform(0.0001, 0.003)) for _ in range(30)))
            rig.now += chance.choice((0.0, 0.3, 30.0))
        rig.budgets.close()

    asyncio.run(asks())
    assert rig.most_nano <= nano_of(limit_usd)
    assert rig.taken_nano == spent[0]
