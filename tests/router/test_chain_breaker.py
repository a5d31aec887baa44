"""The circuit breaker against a model of it, for any order of requests, results and waits; and how waits are drawn."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from router.chain.backoff import Retries
from router.chain.breaker import Breaker, Limits, Permit, State

LIMITS = Limits(failures=3, ratio=0.5, window_s=20.0, rest_s=10.0, rest_cap_s=40.0, probes=2)
CLOSED, HALF_OPEN, OPEN = State.CLOSED, State.HALF_OPEN, State.OPEN


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class BreakerMachine(RuleBasedStateMachine):
    """Requests come, end well or badly or not at all, in any order, while time goes by."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.moves: list[State] = [CLOSED]
        self.moved_s = [0.0]
        self.breaker = Breaker("pool", LIMITS, self.clock, random.Random(1), self.told)
        self.permits: list[tuple[int, Permit]] = []  # with the number of moves when they were given
        self.paused_until_s = 0.0

    def told(self, _: str, state: State) -> None:
        self.moves.append(state)
        self.moved_s.append(self.clock.now_s)

    @property
    def fresh(self) -> list[Permit]:
        """The permits of the state that the breaker is in."""
        return [permit for moves, permit in self.permits if moves == len(self.moves)]

    @rule()
    def ask(self) -> None:
        was, probes, wait_s = self.breaker.state, len(self.fresh), self.breaker.wait_s
        permit = self.breaker.admit()
        assert (permit is None) == (wait_s > 0)
        if was is CLOSED:
            assert (permit is None) == (self.clock.now_s < self.paused_until_s)
        if permit is not None:
            assert self.clock.now_s >= self.paused_until_s
            assert was is not HALF_OPEN or probes == 0  # one probe at a time
            self.permits.append((len(self.moves), permit))

    @precondition(lambda self: self.permits)
    @rule(which=st.integers(0, 99), is_ok=st.sampled_from([True, False, None]))
    def end(self, which: int, is_ok: bool | None) -> None:
        given_at, permit = self.permits.pop(which % len(self.permits))
        was, count = self.breaker.state, len(self.moves)
        permit.settle(is_ok)
        permit.settle(not is_ok)  # the second word does not count
        if given_at != count:
            assert len(self.moves) == count  # it tells of an earlier state
        elif was is HALF_OPEN and is_ok is False:
            assert self.breaker.state is OPEN
        elif is_ok is None:
            assert self.breaker.state is was

    @rule(wait_s=st.floats(0.0, 60.0))
    def wait(self, wait_s: float) -> None:
        self.clock.now_s += wait_s

    @rule(for_s=st.floats(0.0, 30.0))
    def pause(self, for_s: float) -> None:
        self.breaker.pause(for_s)
        self.paused_until_s = max(self.paused_until_s, self.clock.now_s + for_s)

    @rule()
    def break_off(self) -> None:
        was = self.breaker.state
        self.breaker.fail()
        assert was is CLOSED or self.breaker.state is was

    @invariant()
    def it_moves_only_along_its_arrows_and_rests_long_enough(self) -> None:
        arrows = {(CLOSED, OPEN), (OPEN, HALF_OPEN), (HALF_OPEN, CLOSED), (HALF_OPEN, OPEN)}
        assert set(zip(self.moves, self.moves[1:], strict=False)) <= arrows
        for i in range(1, len(self.moves)):
            if self.moves[i] is HALF_OPEN:
                assert self.moved_s[i] - self.moved_s[i - 1] >= 0.9 * LIMITS.rest_s

    @invariant()
    def with_nothing_under_way_it_lets_somebody_ask_in_bounded_time(self) -> None:
        rest_s = max(1.1 * LIMITS.rest_cap_s, self.paused_until_s - self.clock.now_s)
        assert 0.0 <= self.breaker.wait_s <= rest_s
        if self.breaker.state is HALF_OPEN and not self.fresh:
            assert self.breaker.wait_s <= max(0.0, self.paused_until_s - self.clock.now_s)


BreakerMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestAnyHistory = BreakerMachine.TestCase


def opened(limits: Limits = LIMITS) -> tuple[Breaker, Clock]:
    """A breaker that has just opened."""
    clock = Clock()
    breaker = Breaker("pool", limits, clock, random.Random(1))
    for _ in range(limits.failures):
        settle(breaker, False)
    assert breaker.state is OPEN
    return breaker, clock


def settle(breaker: Breaker, is_ok: bool) -> None:
    permit = breaker.admit()
    assert permit is not None
    permit.settle(is_ok)


def test_it_stays_closed_while_most_answers_are_good() -> None:
    breaker = Breaker("pool", LIMITS, Clock(), random.Random(1))
    for i in range(100):
        settle(breaker, is_ok=i % 3 != 0)
    assert breaker.state is CLOSED


def test_old_failures_are_forgotten() -> None:
    clock = Clock()
    breaker = Breaker("pool", LIMITS, clock, random.Random(1))
    for _ in range(10):
        settle(breaker, False)
        clock.now_s += LIMITS.window_s / 2 + 0.1
    assert breaker.state is CLOSED


def test_probes_one_after_another_close_it() -> None:
    breaker, clock = opened()
    assert breaker.admit() is None
    clock.now_s += breaker.wait_s
    settle(breaker, True)
    assert breaker.state is HALF_OPEN
    settle(breaker, True)
    assert (breaker.state, breaker.wait_s) == (CLOSED, 0.0)


def test_what_failed_before_the_rest_is_forgotten_after_it() -> None:
    breaker, clock = opened()
    clock.now_s += breaker.wait_s
    for is_ok in (True, True, False):
        settle(breaker, is_ok)
    assert (breaker.state, clock.now_s < LIMITS.window_s) == (CLOSED, True)


def test_each_failed_probe_doubles_the_rest_up_to_a_cap_and_a_recovery_ends_that() -> None:
    breaker, clock = opened()
    rests = []
    for _ in range(4):
        rests.append(round(breaker.wait_s / LIMITS.rest_s))
        clock.now_s += breaker.wait_s
        settle(breaker, False)
    assert rests == [1, 2, 4, 4]
    clock.now_s += breaker.wait_s
    for is_ok in (True, True, False, False, False):
        settle(breaker, is_ok)
    assert (breaker.state, round(breaker.wait_s / LIMITS.rest_s)) == (OPEN, 1)


@given(
    failures=st.integers(1, 5),
    wanted_s=st.none() | st.floats(0.0, 100.0),
    is_last=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_no_wait_is_shorter_than_wanted_or_longer_than_allowed(
    failures: int, wanted_s: float | None, is_last: bool, seed: int
) -> None:
    retries = Retries(times=3, base_s=0.5, cap_s=8.0, elsewhere_s=2.0)
    wait_s = retries.wait_s(failures, wanted_s, is_last=is_last, chance=random.Random(seed))
    longest_s = 8.0 if is_last else 2.0
    if failures > 3 or (wanted_s or 0.0) > longest_s:
        assert wait_s is None
    else:
        assert wait_s is not None
        assert (wanted_s or 0.0) <= wait_s <= longest_s + 0.5


def test_waits_grow_and_no_two_callers_come_back_together() -> None:
    chance, retries = random.Random(3), Retries(times=9, base_s=1.0, cap_s=100.0)
    drawn = [[retries.wait_s(n, None, is_last=True, chance=chance) or 0.0 for _ in range(200)] for n in (1, 2, 3, 4)]
    assert [round(sum(waits) / 200 * 2) for waits in drawn] == [1, 2, 4, 8]
    assert all(len(set(waits)) == 200 for waits in drawn)
