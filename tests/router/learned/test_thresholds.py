"""The threshold that is to keep a share of the cloud's quality keeps it, on other requests and not by luck."""

from functools import cache

import numpy as np
import pytest

from router.learned.thresholds import CONFIDENCE, NOBODY, THRESHOLDS, Frontier, frontier_of, lowest

DRAWS = 100
WANTED = 0.95
"""Share of the quality of a cloud that is always right."""


@cache
def kept_at(threshold: float, shape: tuple[float, float]) -> bool:
    """Of very many other requests enough are answered well."""
    told = np.random.default_rng(7).beta(*shape, 100_000)
    return bool(np.where(told >= threshold, told, 1.0).mean() >= WANTED)


@pytest.mark.parametrize("count", [60, 200])
@pytest.mark.parametrize("shape", [(1.0, 1.0), (5.0, 1.0), (1.0, 3.0)])
def test_in_nine_of_ten_trainings_the_share_is_kept_on_other_requests(count: int, shape: tuple[float, float]) -> None:
    rng = np.random.default_rng(3)
    kept = 0
    for _ in range(DRAWS):
        told = rng.beta(*shape, count)
        labels = (rng.random(count) < told).astype(float)
        kept += kept_at(lowest(frontier_of(told, labels, np.ones(count), np.arange(count), 1.0), WANTED), shape)
    assert kept >= CONFIDENCE * DRAWS


@pytest.mark.parametrize("count", [24, 60])
def test_conversations_whose_answers_are_alike_count_as_conversations(count: int) -> None:
    """Ten answers each: all of one are good or none is."""
    rng, kept = np.random.default_rng(5), 0
    units, weights, shape = np.repeat(np.arange(count), 10), np.ones(10 * count), (2.0, 2.0)
    for _ in range(DRAWS):
        chances = rng.beta(*shape, count)
        told, labels = np.repeat(chances, 10), np.repeat((rng.random(count) < chances).astype(float), 10)
        kept += kept_at(lowest(frontier_of(told, labels, weights, units, 1.0), WANTED), shape)
    assert kept >= CONFIDENCE * DRAWS


def test_with_many_examples_little_is_given_away() -> None:
    told = np.random.default_rng(1).random(5_000)
    labels = (np.random.default_rng(2).random(5_000) < told).astype(float)
    best = 1 - (2 * (1 - WANTED)) ** 0.5  # of evenly spread probabilities: (1 - t)^2 / 2 is lost
    assert best <= lowest(frontier_of(told, labels, np.ones(5_000), np.arange(5_000), 1.0), WANTED) <= best + 0.05


def point(threshold: float, low: float, share: float = 0.5) -> Frontier:
    return Frontier(threshold=threshold, local_share=share, quality=1.0, low=low)


def test_one_that_passes_below_one_that_does_not_is_luck() -> None:
    assert lowest([point(0.2, 0.99), point(0.5, 0.9), point(0.7, 0.96), point(0.9, 0.97)], 0.95) == 0.7


def test_where_none_can_be_trusted_nothing_goes_to_the_local_model() -> None:
    assert lowest([point(0.2, 0.99), point(0.9, 0.9), point(1.0, 1.0, share=0.0)], 0.95) == NOBODY > max(THRESHOLDS)


def test_an_example_that_counts_less_decides_less() -> None:
    told, labels = np.full(100, 0.8), np.repeat([1.0, 0.0], 50)
    even, lighter = (
        frontier_of(told, labels, weights, np.arange(100), 1.0)[80] for weights in (np.ones(100), 0.1 + 0.9 * labels)
    )
    assert even.quality == pytest.approx(0.5)
    assert lighter.quality == pytest.approx(10 / 11)
    assert even.low < 0.5 < lighter.low < lighter.quality
