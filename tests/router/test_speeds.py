"""What has been seen of how fast models are: newer answers count more, old ones not at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.policy.candidate import Candidate
from router.policy.speed import FORGET_S, Speeds

SAID = Candidate("small", ttft_s=2.0, tokens_per_s=4.0)
SECONDS = st.floats(0, 100)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_what_the_settings_say_holds_until_something_was_seen() -> None:
    speeds = Speeds()
    assert speeds.time_s(SAID, 8) == 4.0
    speeds.observe("small", ttft_s=1.0, tokens=11, rest_s=20.0)
    assert speeds.time_s(SAID, 8) == 17.0


def test_an_answer_of_one_token_says_nothing_of_a_pace() -> None:
    speeds = Speeds()
    speeds.observe("small", ttft_s=1.0, tokens=1, rest_s=20.0)
    assert speeds.seen == {}


def test_the_newest_answer_moves_the_average_by_a_fifth() -> None:
    speeds = Speeds()
    for ttft_s in (1.0, 6.0):
        speeds.observe("small", ttft_s, tokens=11, rest_s=10.0 * ttft_s)
    pace = speeds.seen["small"]
    assert [pace.ttft_s, pace.token_s] == pytest.approx([2.0, 2.0])


def test_what_was_seen_long_ago_counts_for_nothing() -> None:
    clock = Clock()
    speeds = Speeds(clock)
    speeds.observe("small", 50.0, tokens=2, rest_s=50.0)
    clock.now_s = FORGET_S + 1
    assert (dict(speeds.seen), speeds.time_s(SAID, 8)) == ({}, 4.0)
    speeds.observe("small", 1.0, tokens=2, rest_s=1.0)
    assert speeds.time_s(SAID, 8) == 9.0


@given(st.lists(st.tuples(SECONDS, st.integers(2, 500), SECONDS), min_size=1, max_size=30))
def test_an_average_lies_within_what_was_seen(answers: list[tuple[float, int, float]]) -> None:
    speeds = Speeds()
    for ttft_s, tokens, rest_s in answers:
        speeds.observe("small", ttft_s, tokens, rest_s)
    pace, paces = speeds.seen["small"], [rest_s / (tokens - 1) for _, tokens, rest_s in answers]
    firsts = [ttft_s for ttft_s, _, _ in answers]
    assert min(firsts) - 1e-6 <= pace.ttft_s <= max(firsts) + 1e-6
    assert min(paces) - 1e-6 <= pace.token_s <= max(paces) + 1e-6
