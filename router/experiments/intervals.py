"""Intervals for means of numbers from 0 to 1, and for their differences, at one look: who looks often and stops when he
likes the answer needs sequential.py.

Wilson, "Probable Inference, the Law of Succession, and Statistical Inference" (JASA 22, 1927); Newcombe, "Interval
Estimation for the Difference between Independent Proportions" (Statistics in Medicine 17, 1998), his method 10. Both
are for proportions. Scores between 0 and 1 vary at most as much as those; for them the intervals are rather too wide.
"""

from collections.abc import Sequence
from math import ceil, sqrt
from statistics import NormalDist

from router.estimate import Estimate


def wilson(mean: float, count: int, level: float) -> Estimate:
    """The mean of `count` numbers, of which there is one at least, with its interval of the confidence `level`."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    middle = (mean + z * z / (2 * count)) / (1 + z * z / count)
    half = z * sqrt(mean * (1 - mean) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return Estimate(mean, max(0.0, min(mean, middle - half)), min(1.0, max(mean, middle + half)))


def difference(first: Estimate, second: Estimate) -> Estimate:
    """How much larger `first` is than `second`, both from `wilson` and independent, at their level."""
    value = first.value - second.value
    below = sqrt((first.value - first.low) ** 2 + (second.high - second.value) ** 2)
    above = sqrt((first.high - first.value) ** 2 + (second.value - second.low) ** 2)
    return Estimate(value, value - below, value + above)


def quantile(ordered: Sequence[float], share: float) -> float:
    """The least of `ordered` numbers, ascending and not empty, that at least the part `share` of them do not pass."""
    return ordered[max(0, ceil(share * len(ordered)) - 1)]
