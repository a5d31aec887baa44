"""Money in the store: what is taken never exceeds a limit, whoever takes it, and all of it comes back or is spent."""

import multiprocessing
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete

from replicas.errors import BudgetSpent
from router.budget import Claim, Reservation
from router.budget.budget import Settlement, Taken
from router.store import Store, StoreAddress, open_store
from router.store.database import Database
from router.store.money_tables import budgets, reservations

DAY = Claim("all", "2026-01-31", 1_000)
JOB = Claim("job/j1", "all", 300)
JOB2 = Claim("job/j2", "all", 900)
WRITERS = 4


def reservation(nano: int, *claims: Claim, id_: str = "r", ends_at: float = 200.0) -> Reservation:
    return Reservation(id_, nano, ends_at, claims or (DAY,))


def taken(store: Store, *claims: Claim) -> list[int]:
    return [one.nano for one in store.budgets.taken(claims or (DAY,), 0.0)]


def test_what_is_reserved_is_taken_and_what_was_not_spent_comes_back(store: Store) -> None:
    held = reservation(600)
    store.budgets.reserve(held)
    assert taken(store) == [600]
    store.budgets.settle([Settlement(held, 25)])
    assert taken(store) == [25]


def test_what_calls_under_way_hold_is_told_apart_until_they_have_ended(store: Store) -> None:
    held, longer = reservation(600, DAY, JOB2), reservation(100, id_="s", ends_at=300.0)
    store.budgets.reserve(held)
    store.budgets.reserve(longer)
    store.budgets.settle([Settlement(longer, 30, 40)])
    assert store.budgets.taken((DAY, JOB2), 150.0) == [Taken(690, 660), Taken(600, 600)]
    assert store.budgets.taken((DAY, JOB2), 200.0) == [Taken(690, 60), Taken(600, 0)]
    store.budgets.settle([Settlement(held, 25), Settlement(longer, 0)])
    assert store.budgets.taken((DAY, JOB2, JOB), 150.0) == [Taken(55), Taken(25), Taken(0)]


def test_a_limit_can_be_reached_and_not_passed(store: Store) -> None:
    store.budgets.reserve(reservation(600))
    with pytest.raises(BudgetSpent, match="'all' is spent"):
        store.budgets.reserve(reservation(401, id_="s"))
    store.budgets.reserve(reservation(400, id_="t"))
    assert taken(store) == [1_000]


def test_more_than_the_whole_budget_is_refused_at_once(store: Store) -> None:
    with pytest.raises(BudgetSpent):
        store.budgets.reserve(reservation(1_001))
    assert taken(store) == [0]


def test_where_one_budget_has_no_room_nothing_is_taken_from_the_others(store: Store) -> None:
    with pytest.raises(BudgetSpent, match="job/j1"):
        store.budgets.reserve(reservation(301, DAY, JOB))
    assert taken(store, DAY, JOB) == [0, 0]


def test_periods_are_apart(store: Store) -> None:
    tomorrow = Claim("all", "2026-02-01", 1_000)
    store.budgets.reserve(reservation(900))
    store.budgets.reserve(reservation(900, tomorrow, id_="s"))
    assert taken(store, DAY, tomorrow) == [900, 900]
    assert store.budgets.accounts(["2026-02-01"]) == {("all", "2026-02-01"): 900}


def test_what_a_call_cost_beyond_its_reservation_is_counted_past_the_limit(store: Store) -> None:
    held = reservation(900)
    store.budgets.reserve(held)
    store.budgets.settle([Settlement(held, 1_500)])
    assert taken(store) == [1_500]


def test_a_reservation_that_nobody_settled_stays_taken_and_is_told_when_it_has_ended(store: Store) -> None:
    store.budgets.reserve(reservation(900, ends_at=150.0))
    with pytest.raises(BudgetSpent):
        store.budgets.reserve(reservation(200, id_="s"))
    assert taken(store) == [900]
    assert store.budgets.unsettled([DAY.period], 149.0) == {}
    assert store.budgets.unsettled([DAY.period], 151.0) == {(DAY.account, DAY.period): 900}


def test_what_is_settled_after_its_reservation_has_ended_is_counted_once(store: Store) -> None:
    late = reservation(900, ends_at=150.0)
    store.budgets.reserve(late)
    store.budgets.settle([Settlement(late, 70)])
    assert (taken(store), store.budgets.unsettled([DAY.period], 151.0)) == ([70], {})


def test_a_part_of_a_reservation_is_settled_and_the_rest_stays_held(store: Store) -> None:
    held = reservation(300, DAY, JOB)
    store.budgets.reserve(held)
    store.budgets.settle([Settlement(held, 20, 20), Settlement(held, 30, 25)])
    assert taken(store, DAY, JOB) == [305, 305]
    store.budgets.settle([Settlement(held, 0)])
    assert taken(store, DAY, JOB) == [50, 50]


def test_what_frees_all_of_a_reservation_frees_its_parts_too_in_whatever_order_they_come(store: Store) -> None:
    for number, frees in enumerate([(10, None), (None, 10), (150, 150), (10, 10, None)]):
        held = reservation(300, DAY, id_=str(number))
        store.budgets.reserve(held)
        store.budgets.settle([Settlement(held, 5, part) for part in frees])
    assert taken(store) == [45]
    assert store.budgets.unsettled([DAY.period], 1e12) == {}


def spend(address: StoreAddress, writer: int, amounts: list[tuple[int, int]]) -> tuple[int, int, int]:
    """Reserve the first of each pair, settle the second; every third call is left behind. What was settled, what is
    still held, and the most that was ever taken. Runs in a process of its own."""
    store, settled, left, most = open_store(address), 0, 0, 0
    for number, (worst, cost) in enumerate(amounts):
        claims = (DAY, JOB) if number % 2 else (DAY,)
        held = Reservation(f"{writer}-{number}", worst, 1e12, claims)
        try:
            store.budgets.reserve(held)
        except BudgetSpent:
            continue
        most = max(most, store.budgets.taken((DAY,), 0.0)[0].nano)
        if number % 3 == 2:
            left += worst
        else:
            store.budgets.settle([Settlement(held, cost)])
            settled += cost
    store.close()
    return settled, left, most


@pytest.fixture(scope="module")
def workers() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(WRITERS, multiprocessing.get_context("spawn")) as pool:
        yield pool


def emptied(address: StoreAddress) -> None:
    """Take back what an earlier example has left."""
    open_store(address).close()
    database = Database(address.resolved())
    with database.writing() as connection:
        connection.execute(delete(budgets))
        connection.execute(delete(reservations))
    database.close()


AMOUNTS = st.lists(
    st.integers(0, 120).flatmap(lambda worst: st.tuples(st.just(worst), st.integers(0, worst))), max_size=12
)


@given(st.lists(AMOUNTS, min_size=WRITERS, max_size=WRITERS))
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_processes_that_reserve_and_settle_at_once_never_overspend(
    address: StoreAddress, workers: ProcessPoolExecutor, plans: list[list[tuple[int, int]]]
) -> None:
    emptied(address)
    done = [workers.submit(spend, address, writer, plan) for writer, plan in enumerate(plans)]
    found = [one.result(60) for one in done]
    store = open_store(address)
    assert taken(store) == [sum(settled + left for settled, left, _ in found)]
    assert max(most for _, _, most in found) <= DAY.limit_nano
    assert taken(store, JOB)[0] <= JOB.limit_nano
    store.close()


def test_of_many_threads_as_many_reserve_as_there_is_room_for(store: Store) -> None:
    done, refused = list[int](), list[int]()

    def take(number: int) -> None:
        try:
            store.budgets.reserve(reservation(100, id_=str(number)))
            done.append(number)
        except BudgetSpent:
            refused.append(number)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (len(done), len(refused)) == (10, 6)
    assert taken(store) == [1_000]
