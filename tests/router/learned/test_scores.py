"""Scores of predictions: what the books say, and an example that counts twice is as two of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.learned.scores import calibration_error, ranking, scored

EXAMPLES = st.lists(
    st.tuples(st.sampled_from([0.1, 0.3, 0.3, 0.7, 0.9]), st.sampled_from([0.0, 0.2, 0.8, 1.0]), st.integers(1, 4)),
    min_size=1,
    max_size=30,
)


def test_they_are_the_ones_of_the_books() -> None:
    found = scored(np.array([0.9, 0.6, 0.4, 0.2]), np.array([1.0, 0.0, 1.0, 0.0]))
    assert (found.examples, found.good_share, found.brier_of_share) == (4, 0.5, 0.25)
    assert found.brier == pytest.approx((0.01 + 0.36 + 0.36 + 0.04) / 4)
    assert found.auc == 0.75
    assert found.ece == pytest.approx((0.1 + 0.6 + 0.6 + 0.2) / 4)


@given(EXAMPLES)
@settings(deadline=None)
def test_an_example_that_counts_for_several_is_as_so_many(drawn: list[tuple[float, float, int]]) -> None:
    told, labels, weights = (np.array(column, float) for column in zip(*drawn, strict=True))
    few, counts = scored(told, labels, weights), weights.astype(int)
    many = scored(np.repeat(told, counts), np.repeat(labels, counts))
    assert (few.good_share, few.brier, few.brier_of_share) == pytest.approx(
        (many.good_share, many.brier, many.brier_of_share)
    )
    assert few.auc == pytest.approx(many.auc)
    assert 0 <= few.ece <= 1


@given(EXAMPLES)
@settings(deadline=None)
def test_the_ranking_is_the_chance_that_a_good_answer_is_put_first(drawn: list[tuple[float, float, int]]) -> None:
    goods = [(told, weight) for told, label, weight in drawn if label >= 0.5]
    others = [(told, weight) for told, label, weight in drawn if label < 0.5]
    pairs = [((g > o) + 0.5 * (g == o), w * v) for g, w in goods for o, v in others]
    wanted = sum(won * weight for won, weight in pairs) / sum(weight for _, weight in pairs) if pairs else 0.5
    told, labels, weights = (np.array(column, float) for column in zip(*drawn, strict=True))
    assert ranking(told, labels, weights) == pytest.approx(wanted)


def test_perfect_and_empty_predictions_score_as_they_should() -> None:
    labels = np.array([0.0, 1.0] * 50)
    perfect, empty = scored(labels.copy(), labels), scored(np.full(100, 0.5), labels)
    assert (perfect.brier, perfect.ece, perfect.auc) == (0.0, 0.0, 1.0)
    assert (empty.brier, empty.brier_of_share, empty.auc) == (0.25, 0.25, 0.5)


def test_the_calibration_error_is_the_mean_distance_of_told_and_found() -> None:
    labels = np.array([1.0] * 60 + [0.0] * 40)
    assert calibration_error(np.array([0.9] * 60 + [0.1] * 40), labels, np.ones(100)) == pytest.approx(0.1)
