"""Limits of keys: never more than they say, and whoever comes back when told gets in."""

from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicas.errors import LimitReached
from router.keys import Key, Limits
from router.keys.limiter import CONCURRENCY_RETRY_S, MINUTE_S, Limiter


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limiter(clock: Clock) -> Limiter:
    return Limiter(clock)


def key(id_: str = "a", **limits: int) -> Key:
    return Key(id_, "test", 1.0, limits=Limits(**limits))


def ask(limiter: Limiter, by: Key) -> None:
    with limiter.admitted(by):
        pass


def test_a_key_without_limits_is_never_refused(limiter: Limiter) -> None:
    for _ in range(1000):
        ask(limiter, key())
        limiter.spend(key(), 1_000_000)


def test_a_minutes_worth_of_requests_may_come_at_once_and_the_next_waits(limiter: Limiter, clock: Clock) -> None:
    for _ in range(60):
        ask(limiter, key(requests_per_minute=60))
    with pytest.raises(LimitReached, match="60 requests a minute") as refused:
        ask(limiter, key(requests_per_minute=60))
    assert refused.value.retry_after_s == pytest.approx(1.0)
    clock.now_s += 1.01
    ask(limiter, key(requests_per_minute=60))


def test_keys_do_not_share_a_limit(limiter: Limiter) -> None:
    ask(limiter, key("a", requests_per_minute=1))
    ask(limiter, key("b", requests_per_minute=1))
    with pytest.raises(LimitReached):
        ask(limiter, key("a", requests_per_minute=1))


def test_places_are_counted_while_requests_are_inside(limiter: Limiter) -> None:
    limited = key(concurrency=2)
    with ExitStack() as inside:
        inside.enter_context(limiter.admitted(limited))
        inside.enter_context(limiter.admitted(limited))
        with pytest.raises(LimitReached, match="2 requests at once") as refused:
            ask(limiter, limited)
    assert refused.value.retry_after_s == CONCURRENCY_RETRY_S
    ask(limiter, limited)


def test_a_request_that_fails_gives_its_place_back(limiter: Limiter) -> None:
    limited = key(concurrency=1)
    with pytest.raises(ZeroDivisionError), limiter.admitted(limited):
        raise ZeroDivisionError
    ask(limiter, limited)


def test_tokens_past_the_limit_are_paid_back_by_waiting(limiter: Limiter, clock: Clock) -> None:
    limited = key(tokens_per_minute=600)
    ask(limiter, limited)
    limiter.spend(limited, 1200)
    with pytest.raises(LimitReached, match="600 tokens a minute") as refused:
        ask(limiter, limited)
    clock.now_s += refused.value.retry_after_s
    ask(limiter, limited)


@given(st.integers(1, 120), st.lists(st.floats(0, 90), min_size=1, max_size=60))
def test_no_minute_sees_more_than_a_full_bucket_and_its_filling(per_minute: int, waits: list[float]) -> None:
    clock = Clock()
    limiter, limited = Limiter(clock), key(requests_per_minute=per_minute)
    admitted: list[float] = []
    waited: list[float] = []
    for wait_s in waits:
        clock.now_s += wait_s / 10
        for _ in range(10):
            try:
                ask(limiter, limited)
            except LimitReached as refused:
                waited.append(refused.retry_after_s)
                break
            admitted.append(clock.now_s)
    assert all(0 < wait_s <= MINUTE_S / per_minute for wait_s in waited)
    for began_s in admitted:
        assert sum(began_s <= at < began_s + MINUTE_S for at in admitted) <= 2 * per_minute


@given(st.integers(1, 1000), st.integers(1, 5000))
def test_who_comes_back_when_told_gets_in(per_minute: int, spent: int) -> None:
    clock = Clock()
    limiter, limited = Limiter(clock), key(tokens_per_minute=per_minute)
    limiter.spend(limited, spent)
    try:
        ask(limiter, limited)
    except LimitReached as refused:
        clock.now_s += refused.retry_after_s + 1e-6
        ask(limiter, limited)


def test_a_request_for_several_answers_counts_as_so_many(limiter: Limiter, clock: Clock) -> None:
    by = key(requests_per_minute=10)
    ask(limiter, by)
    limiter.add(by, 19)
    with pytest.raises(LimitReached) as refusal:
        ask(limiter, by)
    assert refusal.value.retry_after_s == pytest.approx(66)
    clock.now_s += 66.1
    ask(limiter, by)
