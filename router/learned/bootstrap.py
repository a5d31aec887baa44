"""Means with intervals, by drawing the same number of requests again and again, with replacement, from a seed."""

import numpy as np

from router.estimate import Estimate
from router.learned.logistic import Array

RESAMPLES = 1000
ENDS = (2.5, 97.5)
"""Percentiles: an interval of 95 %."""

MOST_NUMBERS = 2_000_000
"""Drawn at a time, so that a long log takes time and not memory."""


def sums(columns: Array, seed: int = 0) -> Array:
    """The sums (RESAMPLES, columns) of `columns` (requests, columns) over each draw of requests."""
    requests = len(columns)
    rng, at_once = np.random.default_rng(seed), max(1, MOST_NUMBERS // requests)
    parts = []
    for begin in range(0, RESAMPLES, at_once):
        drawn = rng.integers(requests, size=(min(at_once, RESAMPLES - begin), requests))
        parts.append(columns[drawn].sum(axis=1))
    return np.concatenate(parts)


def counts(requests: int, seed: int = 0) -> Array:
    """How often (RESAMPLES, requests) each of so many requests is in each draw."""
    rng = np.random.default_rng(seed)
    drawn = (np.bincount(rng.integers(requests, size=requests), minlength=requests) for _ in range(RESAMPLES))
    return np.array(list(drawn), np.float64)


def estimate(value: float, resampled: Array) -> Estimate:
    """`value`, with the interval of what it was in the draws (RESAMPLES)."""
    low, high = np.percentile(resampled, ENDS)
    return Estimate(value, float(low), float(high))


def mean_of(values: Array, seed: int = 0) -> Estimate:
    """The mean of `values` (requests)."""
    return estimate(float(values.mean()), sums(values[:, None], seed)[:, 0] / len(values))
