"""Means with intervals, by drawing as many units again and again, with replacement, from a seed.

A unit is what is independent of the others: a request, or all requests of one that drew them together.
"""

import numpy as np
from numpy.typing import NDArray

from router.estimate import Estimate
from router.learned.logistic import Array

RESAMPLES = 1000
ENDS = (2.5, 97.5)
"""Percentiles: an interval of 95 %."""

MOST_NUMBERS = 2_000_000
"""Drawn at a time, so that a long log takes time and not memory."""


def sums(columns: Array, seed: int = 0) -> Array:
    """The sums (RESAMPLES, columns) of `columns` (units, columns) over each draw of units."""
    units = len(columns)
    rng, at_once = np.random.default_rng(seed), max(1, MOST_NUMBERS // units)
    parts = []
    for begin in range(0, RESAMPLES, at_once):
        drawn = rng.integers(units, size=(min(at_once, RESAMPLES - begin), units))
        parts.append(columns[drawn].sum(axis=1))
    return np.concatenate(parts)


def gathered(columns: Array, units: NDArray[np.int64]) -> Array:
    """The sums (units, columns) of `columns` (requests, columns) over the requests of each unit; `units` (requests) are
    their numbers."""
    found = np.zeros((int(units.max()) + 1, columns.shape[1]))
    np.add.at(found, units, columns)
    return found


def counts(requests: int, seed: int = 0) -> Array:
    """How often (RESAMPLES, requests) each of so many requests is in each draw."""
    rng = np.random.default_rng(seed)
    drawn = (np.bincount(rng.integers(requests, size=requests), minlength=requests) for _ in range(RESAMPLES))
    return np.array(list(drawn), np.float64)


def estimate(value: float, resampled: Array) -> Estimate:
    """`value`, with the interval of what it was in the draws (RESAMPLES)."""
    low, high = np.percentile(resampled, ENDS)
    return Estimate(value, float(low), float(high))


def mean_of(values: Array, units: NDArray[np.int64] | None = None, seed: int = 0) -> Estimate:
    """The mean of `values` (requests), each of the unit of that number, or on its own."""
    columns = np.column_stack([values, np.ones(len(values))])
    drawn = sums(columns if units is None else gathered(columns, units), seed)
    return estimate(float(values.mean()), drawn[:, 0] / drawn[:, 1])
