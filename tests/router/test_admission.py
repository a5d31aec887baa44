"""Admission, on a clock that the tests turn."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicas.errors import Overloaded
from router.admission import Admission


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def refusal_s(door: Admission) -> float:
    with pytest.raises(Overloaded) as caught:
        door.enter()
    assert caught.value.pool == door.pool
    return caught.value.retry_after_s


def full(limit: int) -> tuple[Admission, Clock]:
    clock = Clock()
    door = Admission("smol", limit, clock)
    for _ in range(limit):
        door.enter()
    return door, clock


def test_so_many_get_in_and_no_more() -> None:
    door, _ = full(3)
    refusal_s(door)
    assert door.inside == 3
    door.leave()
    door.enter()
    assert door.inside == 3


def test_a_place_comes_free_however_the_request_ends() -> None:
    door = Admission("smol", 1, Clock())

    def broken_request() -> None:
        with door.admitted():
            assert door.inside == 1
            raise LookupError

    with pytest.raises(LookupError):
        broken_request()
    assert door.inside == 0


def test_a_refused_request_takes_no_place() -> None:
    door, _ = full(1)
    with pytest.raises(Overloaded), door.admitted():
        pass
    assert door.inside == 1


def test_callers_are_told_to_come_back_at_the_rate_at_which_places_come_free() -> None:
    door, clock = full(4)
    for _ in range(10):
        clock.now_s += 5.0
        door.leave()
        door.enter()
    assert refusal_s(door) == pytest.approx(5.0)
    assert refusal_s(door) == pytest.approx(10.0)
    assert refusal_s(door) == pytest.approx(15.0)


def test_promises_of_the_past_do_not_hold_up_later_callers() -> None:
    door, clock = full(4)
    for _ in range(10):
        clock.now_s += 2.0
        door.leave()
        door.enter()
    for _ in range(1000):
        refusal_s(door)
    for _ in range(40):
        clock.now_s += 2.0
        door.leave()
        door.enter()
    assert refusal_s(door) < 3.0


def test_a_stall_lengthens_the_wait() -> None:
    door, clock = full(4)
    clock.now_s += 1.0
    door.leave()
    door.enter()
    first = refusal_s(door)
    clock.now_s += 30.0
    assert refusal_s(door) > first + 10


def test_a_quiet_hour_does_not_make_a_sudden_crowd_wait() -> None:
    clock = Clock()
    door = Admission("smol", 100, clock)
    for _ in range(60):
        door.enter()
        clock.now_s += 60.0
        door.leave()
    for _ in range(100):
        door.enter()
    assert refusal_s(door) == 1.0


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 100)), max_size=80), st.integers(1, 4))
def test_the_wait_is_always_between_a_second_and_a_minute(steps: list[tuple[bool, float]], limit: int) -> None:
    clock = Clock()
    door = Admission("smol", limit, clock)
    for is_arrival, passed_s in steps:
        clock.now_s += passed_s
        if is_arrival and door.inside == limit:
            assert 1.0 <= refusal_s(door) <= 60.0
        elif is_arrival:
            door.enter()
        elif door.inside:
            door.leave()
        assert 0 <= door.inside <= limit
