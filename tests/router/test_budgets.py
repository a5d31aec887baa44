"""Budgets in a process: whose is taken from, what rules are told, and that money held always comes back or is spent."""

import asyncio
import threading
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicas.errors import BudgetHeld, BudgetSpent, Unavailable
from router.budget import Budget, Budgets, Claim, Payer, Reservation
from router.budget.budget import Taken, claims_of
from router.budget.budgets import HELD_RETRY_S, Settlement, refusal
from router.budget.money import nano_of, usd_of
from router.store import Store, StoreAddress, open_store

CENT = nano_of(0.01)
ALL = Budget("all", 100 * CENT)
EACH_JOB = Budget("jobs", 10 * CENT, "total", "job")
EACH_KEY = Budget("keys", 50 * CENT, "month", "key")
TEAM = Budget("team", 30 * CENT, keys=("k1", "crawler-*"))
EVERY = (ALL, EACH_JOB, EACH_KEY, TEAM)
TODAY = date(2026, 11, 21)


class Rig:
    """Budgets on SQLite, with a clock that stands; settlements are written at once."""

    def __init__(self, folder: Path, *budgets: Budget) -> None:
        self.store: Store = open_store(StoreAddress.of_file(folder / "shoal.sqlite"))
        self.now = 1_000_000.0
        self.budgets = Budgets(budgets, self.store.budgets, self._settle, lambda: self.now)

    def _settle(self, settlement: Settlement) -> None:
        self.store.budgets.settle([settlement])


@pytest.mark.parametrize(
    ("payer", "accounts"),
    [
        (Payer(), ["all", "keys/"]),
        (Payer(job="j"), ["all", "jobs/j", "keys/"]),
        (Payer("k1", "x"), ["all", "keys/k1", "team"]),
        (Payer("k2", "crawler-7"), ["all", "keys/k2", "team"]),
    ],
)
def test_a_request_takes_from_every_budget_that_is_for_it(payer: Payer, accounts: list[str]) -> None:
    assert [claim.account for claim in claims_of(EVERY, payer, TODAY)] == accounts


def test_periods_have_accounts_of_their_own() -> None:
    periods = {claim.account: claim.period for claim in claims_of(EVERY, Payer("k", job="j"), TODAY)}
    assert periods == {"all": "2026-11-21", "jobs/j": "all", "keys/k": "2026-11"}


def test_names_that_callers_make_up_are_cut_to_what_may_be_stored() -> None:
    [claim] = claims_of([EACH_JOB], Payer(job="\0\ud800" + "x" * 500), TODAY)
    assert len(claim.account) == 200
    assert claim.account.startswith("jobs/?x")


def test_money_is_counted_in_whole_nano_dollars_and_never_too_low() -> None:
    assert nano_of(0.1 + 0.2) == 300_000_000
    assert nano_of(1e-12) == 1
    assert usd_of(nano_of(1.25)) == 1.25
    assert nano_of(float("inf")) > nano_of(1_000_000_000)


@pytest.mark.parametrize(("cost_usd", "state"), [(0.0, "ok"), (0.079, "ok"), (0.08, "low"), (0.1, "spent")])
def test_rules_hear_of_the_tightest_budget(tmp_path: Path, cost_usd: float, state: str) -> None:
    async def states() -> tuple[str, str]:
        rig = Rig(tmp_path, ALL, EACH_JOB)
        async with rig.budgets.held(Payer(job="j"), 0.1, 10) as hold:
            hold.cost_usd = cost_usd
        return await rig.budgets.state(Payer(job="j")), await rig.budgets.state(Payer())

    assert asyncio.run(states()) == (state, "ok")


def test_a_state_is_read_anew_when_it_is_a_second_old(tmp_path: Path) -> None:
    async def states() -> list[str]:
        rig = Rig(tmp_path, EACH_JOB)
        found: list[str] = [await rig.budgets.state(Payer(job="j"))]
        async with rig.budgets.held(Payer(job="j"), 0.1, 10):
            found.append(await rig.budgets.state(Payer(job="j")))
            rig.now += 1.5
            found.append(await rig.budgets.state(Payer(job="j")))
        return found

    assert asyncio.run(states()) == ["ok", "ok", "low"]


def test_a_call_that_fails_gives_back_what_it_held(tmp_path: Path) -> None:
    async def fail(rig: Rig) -> None:
        async with rig.budgets.held(Payer(), 0.5, 10):
            raise ConnectionError

    rig = Rig(tmp_path, ALL)
    with pytest.raises(ConnectionError):
        asyncio.run(fail(rig))
    assert rig.store.budgets.accounts(["1970-01-12"]) == {("all", "1970-01-12"): 0}


def test_a_call_that_may_cost_too_much_or_nobody_knows_what_is_refused(tmp_path: Path) -> None:
    async def ask(worst_usd: float) -> None:
        async with Rig(tmp_path, ALL).budgets.held(Payer(), worst_usd, 10):
            pytest.fail("it was let through")

    for worst_usd in (1.01, float("inf")):
        with pytest.raises(BudgetSpent, match="'all'"):
            asyncio.run(ask(worst_usd))


def test_what_calls_under_way_hold_is_told_as_held_and_as_spent_when_it_is(tmp_path: Path) -> None:
    rig = Rig(tmp_path, ALL, EACH_JOB)

    async def ask() -> None:
        async with rig.budgets.held(Payer(), 0.5, 10):
            pytest.fail("it was let through")

    async def asks() -> None:
        async with rig.budgets.held(Payer(), 0.6, 10) as hold:
            with pytest.raises(BudgetHeld, match=r"\$0\.600000 of the budget 'all' is held by calls under way") as held:
                await ask()
            assert (held.value.held_usd, held.value.retry_after_s) == (0.6, HELD_RETRY_S)
            hold.cost_usd = 0.55
        with pytest.raises(BudgetSpent, match=r"'all' has \$0\.450000 left, and this may cost \$0\.500000"):
            await ask()

    asyncio.run(asks())


def test_what_a_dead_process_held_does_not_come_back_and_counts_as_spent(tmp_path: Path) -> None:
    rig = Rig(tmp_path, ALL)
    claims = claims_of((ALL,), Payer(), date(1970, 1, 12))
    rig.store.budgets.reserve(Reservation("dead", 100 * CENT, rig.now + 5, claims))

    async def ask() -> str:
        async with rig.budgets.held(Payer(), 0.5, 10):
            pytest.fail("it was let through")

    with pytest.raises(BudgetHeld):
        asyncio.run(ask())
    rig.now += 6
    with pytest.raises(BudgetSpent, match="'all' is spent"):
        asyncio.run(ask())
    assert asyncio.run(rig.budgets.state(Payer())) == "spent"


AMOUNTS = st.tuples(st.integers(1, 100), st.integers(0, 150), st.integers(0, 150))


@given(st.lists(AMOUNTS, min_size=1, max_size=4), st.integers(1, 120))
def test_who_is_told_to_come_again_can_be_served_if_nothing_is_spent_meanwhile(
    amounts: list[tuple[int, int, int]], nano: int
) -> None:
    claims = [Claim(f"a{number}", "all", limit) for number, (limit, _, _) in enumerate(amounts)]
    taken = [Taken(spent + held, held) for _, spent, held in amounts]
    fits_later = all(nano + spent <= limit for limit, spent, _ in amounts)
    refused = refusal(claims, taken, nano)
    assert isinstance(refused, BudgetHeld if fits_later else BudgetSpent)
    has_room_now = all(nano + spent + held <= limit for limit, spent, held in amounts)
    if isinstance(refused, BudgetHeld) and not has_room_now:
        limit, spent, held = amounts[int(refused.budget[1:])]
        assert spent + held + nano > limit
        assert refused.held_usd == usd_of(held)


def test_without_budgets_any_price_is_let_through_and_the_store_is_not_asked() -> None:
    async def ask() -> str:
        budgets = Budgets((), Gone(), lambda _: pytest.fail("there is nothing to settle"))
        async with budgets.held(Payer(), float("inf"), 10):
            return await budgets.state(Payer())

    assert asyncio.run(ask()) == "ok"


class Gone:
    """A store that does not answer."""

    def reserve(self, reservation: Reservation) -> None:
        raise Unavailable("the store")

    def taken(self, claims: Sequence[Claim], now: float) -> list[Taken]:
        raise Unavailable("the store")


def test_without_its_store_nothing_may_be_spent() -> None:
    async def ask() -> str:
        budgets = Budgets((ALL,), Gone(), lambda _: None)
        with pytest.raises(Unavailable):
            async with budgets.held(Payer(), 0.01, 10):
                pytest.fail("it was let through")
        return await budgets.state(Payer())

    assert asyncio.run(ask()) == "spent"


class Slow:
    """A store that reserves when it is let."""

    def __init__(self) -> None:
        self.entered, self.gate = threading.Event(), threading.Event()

    def reserve(self, reservation: Reservation) -> None:
        self.entered.set()
        assert self.gate.wait(30)

    def taken(self, claims: Sequence[Claim], now: float) -> list[Taken]:
        return [Taken(0) for _ in claims]


def test_who_leaves_while_the_store_reserves_gets_it_back_afterwards() -> None:
    async def ask() -> Settlement:
        slow = Slow()
        settled: asyncio.Future[Settlement] = asyncio.get_running_loop().create_future()
        budgets = Budgets((ALL,), slow, settled.set_result)
        asking = asyncio.create_task(budgets.held(Payer(), 0.5, 10).__aenter__())
        await asyncio.to_thread(slow.entered.wait, 30)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        slow.gate.set()
        async with asyncio.timeout(30):
            return await settled

    settlement = asyncio.run(ask())
    assert (settlement.reservation.nano, settlement.cost_nano) == (50 * CENT, 0)


class Hanging:
    """A store that says what is taken of an account once its gate is open: most of it."""

    def __init__(self) -> None:
        self.gates = {name: threading.Event() for name in ("mine", "other")}

    def reserve(self, reservation: Reservation) -> None:
        pytest.fail("nothing is spent here")

    def taken(self, claims: Sequence[Claim], now: float) -> list[Taken]:
        assert self.gates[claims[0].account].wait(30)
        return [Taken(claim.limit_nano * 9 // 10) for claim in claims]


def test_a_store_that_hangs_is_not_waited_for_and_holds_up_no_other_payer(monkeypatch: pytest.MonkeyPatch) -> None:
    hanging, now = Hanging(), [1e6]
    both = (Budget("mine", CENT, keys=("k1",)), Budget("other", CENT, keys=("k2",)))

    async def states() -> list[str]:
        budgets, found = Budgets(both, hanging, lambda _: None, lambda: now[0]), list[str]()
        async with asyncio.timeout(20):
            monkeypatch.setattr("router.budget.budgets.READ_WAIT_S", 0.01)
            found.append(await budgets.state(Payer("k1")))
            monkeypatch.setattr("router.budget.budgets.READ_WAIT_S", 20.0)
            hanging.gates["other"].set()
            found.append(await budgets.state(Payer("k2")))
            hanging.gates["other"].clear()
            now[0] += 5
            monkeypatch.setattr("router.budget.budgets.READ_WAIT_S", 0.01)
            found.append(await budgets.state(Payer("k2")))
            for gate in hanging.gates.values():
                gate.set()
            while await budgets.state(Payer("k1")) == "spent":
                pass  # each look waits a moment for the read that hung
            return found

    assert asyncio.run(states()) == ["spent", "low", "low"]
