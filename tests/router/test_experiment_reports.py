"""What experiments have shown: intervals that cover, a test that may be looked at at any time, and units that count."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.experiments.intervals import difference, quantile, wilson
from router.experiments.report import report
from router.experiments.sequential import Arm, SequentialTest
from router.journal.entry import Feedback, Outcome, Score
from tests.router.decisions import ANSWERED, entry, tried

ALPHA = 0.05


def looked(first: float, second: float, looks: int, seed: int) -> SequentialTest:
    """A test of so many answers, each with one of two rates of success, drawn in any order."""
    chance = np.random.default_rng(seed)
    test = SequentialTest()
    for arm, lucky in zip(chance.integers(0, 2, looks), chance.random(looks), strict=True):
        test.add(0 if arm == 0 else 1, float(lucky < (first, second)[arm]))
    return test


@pytest.mark.parametrize("rate", [0.05, 0.5, 0.9])
def test_with_no_difference_and_a_look_after_every_answer_it_errs_at_most_as_often_as_stated(rate: float) -> None:
    runs = 300
    # `p_value` is the least of all looks so far: it is what somebody finds who looks after every single answer.
    errors = sum(looked(rate, rate, 200, seed).p_value <= ALPHA for seed in range(runs))
    assert errors / runs <= ALPHA


def test_scores_that_are_alike_only_on_average_do_not_mislead_it() -> None:
    chance = np.random.default_rng(1)
    errors = 0
    for _ in range(200):
        test = SequentialTest()
        for number in range(200):
            steady = number % 2 == 0
            test.add(0 if steady else 1, 0.5 if steady else float(chance.integers(0, 2)))
        errors += test.p_value <= ALPHA
    assert errors / 200 <= ALPHA


@pytest.mark.parametrize(("first", "second", "enough"), [(0.5, 0.8, 300), (0.9, 0.6, 300), (0.5, 0.65, 1500)])
def test_a_real_difference_is_found(first: float, second: float, enough: int) -> None:
    found = sum(looked(first, second, enough, seed).p_value <= ALPHA for seed in range(20))
    assert found >= 18


@given(st.lists(st.tuples(st.sampled_from([0, 1]), st.floats(0, 1)), max_size=60))
def test_the_p_value_never_grows_and_is_the_same_for_variants_that_change_places(told: list[tuple[Arm, float]]) -> None:
    one, other = SequentialTest(), SequentialTest()
    before = 1.0
    for arm, value in told:
        one.add(arm, value)
        other.add(0 if arm == 1 else 1, value)
        assert 0 < one.p_value <= before
        before = one.p_value
    assert one.p_value == pytest.approx(other.p_value)


def test_wilsons_interval_is_the_one_of_the_books() -> None:
    # Newcombe (1998), "Two-sided confidence intervals for the single proportion", table I.
    for successes, count, low, high in [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)]:
        found = wilson(successes / count, count, 0.95)
        assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


def test_newcombes_interval_is_the_one_of_the_books() -> None:
    # Newcombe (1998), "Interval estimation for the difference", table II, method 10: 56/70 - 48/80 and 9/10 - 3/10.
    told = [(56, 70, 48, 80, 0.0524, 0.3339), (9, 10, 3, 10, 0.1705, 0.8090)]
    for first, of_first, second, of_second, low, high in told:
        found = difference(wilson(first / of_first, of_first, 0.95), wilson(second / of_second, of_second, 0.95))
        assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 10_000), st.floats(0, 1), st.sampled_from([0.8, 0.95, 0.99]))
def test_an_interval_is_round_its_value_and_within_what_is_possible(count: int, mean: float, level: float) -> None:
    found = wilson(mean, count, level)
    assert 0 <= found.low <= found.value == mean <= found.high <= 1


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_the_least_that_enough_do_not_pass(numbers: list[float], share: float) -> None:
    ordered = sorted(numbers)
    found = quantile(ordered, share)
    assert sum(one <= found for one in ordered) >= share * len(ordered) * (1 - 1e-9)
    assert sum(one < found for one in ordered) < math.ceil(share * len(ordered))


def test_a_report_tells_each_variant_and_its_difference_to_the_control() -> None:
    rows = [tried("e", "a", f"a{n}", is_good=n % 2 == 0, score=0.25, at=float(n)) for n in range(60)]
    rows += [tried("e", "b", f"b{n}", score=0.75, at=n + 0.5) for n in range(60)]
    rows += [tried("f", "a", "other"), tried("e", "gone", "gone"), entry("none")]
    found = report("e", ["a", "b"], rows)
    control, other = found.variants
    assert (control.decisions, control.answers, control.units, control.scored_units) == (60, 30, 60, 60)
    assert control.success == wilson(0.5, 60, 0.95)
    assert other.score == wilson(0.75, 60, 0.95)
    assert (other.latency_p50_s, other.latency_p95_s, other.cost_per_answer_usd) == (0.5, 0.5, 0.0)
    assert [(one.variant, one.measure) for one in found.comparisons] == [("b", "success"), ("b", "score")]
    assert [one.difference.value for one in found.comparisons] == [0.5, 0.5]
    assert all(one.difference.low > 0 and one.p_value < 0.001 for one in found.comparisons)


def test_with_several_measures_each_has_to_be_surer() -> None:
    rows = [
        tried("e", name, f"{name}{n}", is_good=name == "b", score=0.5, at=float(n)) for n in range(20) for name in "ab"
    ]
    test = SequentialTest()
    for _ in range(20):
        test.add(0, 0.0)
        test.add(1, 1.0)
    found = report("e", ["a", "b"], rows).comparisons
    assert [one.measure for one in found] == ["success", "score"]
    assert found[0].p_value == pytest.approx(2 * test.p_value)


def test_each_of_several_comparisons_has_to_be_surer() -> None:
    made = [(name, n) for n in range(20) for name in "abc"]
    rows = [tried("e", name, f"{name}{n}", is_good=name == "b" or n % 2 == 0, at=float(n)) for name, n in made]
    alone, among = (report("e", names, rows).comparisons[0] for names in (["a", "b"], ["a", "b", "c"]))
    assert alone.p_value < 1
    assert among.p_value == pytest.approx(min(1.0, 2 * alone.p_value))


def test_a_session_counts_once_however_much_it_asks() -> None:
    busy = [
        entry(f"m{n}", float(n), experiment="e", variant="a", session="s", result=replace(ANSWERED, outcome=outcome))
        for n, outcome in enumerate([Outcome.ANSWERED, Outcome.ANSWERED, Outcome.FAILED, Outcome.BELOW_BAR])
    ]
    calm = [tried("e", "a", "x", is_good=False)]
    [found] = report("e", ["a"], [*busy, *calm]).variants
    assert (found.decisions, found.answers, found.units) == (5, 3, 2)
    assert found.success is not None
    assert found.success.value == pytest.approx((2 / 4 + 0) / 2)


def test_whose_caller_left_says_nothing_of_success() -> None:
    left = tried("e", "a", "x")
    [found] = report("e", ["a"], [replace(left, result=replace(left.result, outcome=Outcome.LEFT))]).variants
    assert (found.decisions, found.answers, found.success, found.cost_per_answer_usd) == (1, 0, None, None)


def test_without_anything_to_compare_nothing_is_compared() -> None:
    found = report("e", ["a", "b"], [tried("e", "a", "x", score=1.0)])
    assert found.comparisons == ()
    assert found.variants[1].success is None


def test_scores_that_are_changed_change_means_and_no_p_value() -> None:
    rows = [tried("e", "ab"[n % 2], f"m{n}", score=float(n % 2), at=float(n)) for n in range(60)]
    first = [Score(float(n % 2), n + 1.0) for n in range(60)]
    changed = [replace(row, feedback=Feedback(1.0, "", 1_000.0 + n, first[n])) for n, row in enumerate(rows)]
    before, after = (report("e", ["a", "b"], told).comparisons[1] for told in (rows, changed))
    assert (before.measure, before.difference.value, after.difference.value) == ("score", 1.0, 0.0)
    assert before.p_value == after.p_value < 0.001


@given(st.permutations(range(12)))
@settings(max_examples=20)
def test_the_order_in_which_rows_are_read_does_not_matter(order: list[int]) -> None:
    rows = [tried("e", "ab"[n % 2], f"m{n}", is_good=n % 3 > 0, score=n / 11, at=float(n)) for n in range(12)]
    rows[3] = replace(rows[3], feedback=Feedback(0.5, "", 1_000.0))
    assert report("e", ["a", "b"], [rows[n] for n in order]).comparisons == report("e", ["a", "b"], rows).comparisons
