"""Frontiers and savings: what is known of both answers is compared as it is, and an oracle is never beaten."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.learned.bootstrap import RESAMPLES, counts, gathered, mean_of, sums
from router.learned.frontier import Case, Cases, estimated
from router.learned.offpolicy import Log
from tests.router.learned.made import examples, trained
from tests.router.learned.test_offpolicy import logged

GRADES = st.sampled_from([0.0, 0.5, 1.0])
CASES = st.lists(
    st.tuples(GRADES, GRADES, st.floats(0.001, 1), st.sampled_from([0.0, 1.0]), st.floats(0, 1)),
    min_size=2,
    max_size=12,
)
TRAITS = [one.traits for one in examples(12)]


def cases(count: int = 300) -> Cases:
    """The cloud answers nine in ten well, at a cent each; the rules send everything to it."""
    rng = np.random.default_rng(1)
    found = [Case(one.traits, one.good, float(rng.random() < 0.9), 0.01, 0.0) for one in examples(count, seed=7)]
    return Cases(found)


@given(CASES, st.floats(0.5, 1))
@settings(max_examples=25, deadline=None)
def test_nobody_saves_more_than_the_oracle(drawn: list[tuple[float, float, float, float, float]], share: float) -> None:
    found = Cases([Case(TRAITS[i], *one[:4]) for i, one in enumerate(drawn)])
    told = np.array([one[4] for one in drawn])
    saved = found.savings(told, share)
    assert all(saved[name].value <= 1 + 1e-9 for name in saved)
    if all(local in (0.0, 1.0) and cloud in (0.0, 1.0) for local, cloud, *_ in drawn):
        assert all(saved["oracle"].value >= saved[name].value - 1e-9 for name in ("rules", "learned"))


def test_savings_are_what_can_be_reckoned_by_hand() -> None:
    local, cloud = [1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]
    found = Cases([Case(TRAITS[i], local[i], cloud[i], 0.01 * (i + 1), float(i < 3)) for i in range(4)])
    told = np.array([0.9, 0.4, 0.6, 0.1])
    saved = {name: one.value for name, one in found.savings(told, 1.0).items()}
    assert saved == {"rules": 0.0, "learned": pytest.approx(0.1), "random": 0.0, "oracle": pytest.approx(0.3)}
    saved = {name: one.value for name, one in found.savings(told, 0.75).items()}
    assert saved["learned"] == pytest.approx(0.6)
    assert saved["rules"] == pytest.approx(0.6)
    assert saved["random"] == pytest.approx(0.5)
    assert saved["oracle"] == pytest.approx(0.7)  # the dearest of the two that it may lose


def test_requests_with_equal_predictions_go_the_same_way() -> None:
    found = Cases([Case(TRAITS[i], float(i == 0), 1.0, 0.01, 0.0) for i in range(4)])
    assert found.savings(np.full(4, 0.5), 0.9)["learned"].value == 0.0


def test_the_frontier_has_everybody_and_learned_lies_above_chance() -> None:
    points = list(cases().points(trained(), 0.5))
    assert {point.policy for point in points} == {"rules", "learned", "random", "oracle"}
    all_cloud = next(point for point in points if point.policy == "random" and point.local_share == 0)
    half = next(point for point in points if point.setting == "p >= 0.50")
    chance = next(point for point in points if point.policy == "random" and point.setting == "50% local")
    assert half.quality.value > chance.quality.value + 0.1
    assert half.cost_usd.value < 0.7 * all_cloud.cost_usd.value
    rules = next(point for point in points if point.policy == "rules")
    assert (rules.quality, rules.cost_usd) == (all_cloud.quality, all_cloud.cost_usd)


def test_where_it_abstains_the_rules_answer() -> None:
    found, model = cases(), trained()
    opinions = found.opinions(model, 0.9)
    picks = found.settled(model, 0.9)
    assert {opinion.pick for opinion in opinions} == {"local", "cloud", None}
    assert [bool(pick) for pick in picks] == [opinion.pick == "local" for opinion in opinions]


def test_a_log_has_a_frontier_without_an_oracle() -> None:
    points = list(estimated(Log.of(logged(300, 1)[0]), trained(), 0.5))
    assert {point.policy for point in points} == {"logged", "learned", "random"}
    served = next(point for point in points if point.setting == "as set, or as logged")
    assert 0 < served.local_share < 1
    ends = {point.setting: point for point in points if point.policy == "random"}
    assert ends["0% local"].cost_usd.value == pytest.approx(0.01)
    assert ends["100% local"].cost_usd.value == pytest.approx(0)
    assert ends["0% local"].quality.value == pytest.approx(0.925, abs=0.06)


def test_the_bootstrap_is_the_same_every_time_and_as_wide_as_the_standard_error() -> None:
    values = np.random.default_rng(3).normal(size=400)
    told = mean_of(values)
    assert mean_of(values) == told
    assert told.high - told.low == pytest.approx(4 * values.std() / 20, rel=0.1)
    assert counts(50).sum(axis=1).tolist() == [50.0] * RESAMPLES
    assert sums(np.ones((7, 2))).tolist() == [[7.0, 7.0]] * RESAMPLES


def test_requests_of_one_unit_are_drawn_together() -> None:
    values, units = np.repeat([0.0, 1.0, 0.0, 1.0], 25), np.repeat(np.arange(4), 25)
    assert gathered(values[:, None], units).tolist() == [[0.0], [25.0], [0.0], [25.0]]
    apart, together = mean_of(values), mean_of(values, units)
    assert apart.value == together.value == 0.5
    assert (together.low, together.high) == (0.0, 1.0)
    assert apart.high - apart.low < 0.25
