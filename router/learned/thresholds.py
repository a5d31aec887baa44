"""What becomes of quality at each threshold, and the lowest threshold that can be trusted to keep a share of it.

The lowest whose examples happen to be good enough would be the luckiest one: on other requests about half of all such
choices fall short. So thresholds are tested in their order from the top, each by the lower end of an interval, and the
first that fails ends it: then all that passed hold together with CONFIDENCE (fixed-sequence testing; Angelopoulos,
Bates, Candes, Jordan and Lei, Learn then Test, 2021).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from router.learned.logistic import Array

THRESHOLDS = tuple(step / 100 for step in range(101))
NOBODY = 1.01
"""A threshold that no probability reaches."""

CONFIDENCE = 0.9
Z = 1.2815515594457831
"""A normal distribution is above its mean less so many deviations with CONFIDENCE."""


class Frontier(BaseModel):
    """What happens at `threshold`: `local_share` of the examples go to the local model, and `quality` is the mean
    quality of all answers then, with CONFIDENCE at least `low`. By predictions for examples that were not learned
    from."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    threshold: float = Field(ge=0, le=1)
    local_share: float = Field(ge=0, le=1)
    quality: float = Field(ge=0, le=1)
    low: float = Field(ge=0, le=1)


def frontier_of(
    told: Array, labels: Array, weights: Array, units: NDArray[np.int64], cloud_quality: float
) -> tuple[Frontier, ...]:
    """Every threshold's, by the probabilities `told`, the `labels` (0 to 1), the `weights` and the numbers of the
    `units` of examples: those of one unit are not independent of each other."""
    known = _Known(labels - cloud_quality, weights, units)
    return tuple(known.at(one, told >= one, cloud_quality) for one in THRESHOLDS)


def lowest(frontier: Iterable[Frontier], wanted: float) -> float:
    """The lowest threshold that keeps the quality `wanted`, as do all above it; NOBODY if there is none."""
    from_top = sorted((one for one in frontier if one.local_share), key=lambda one: -one.threshold)
    kept: Sequence[Frontier] = tuple(takewhile(lambda one: one.low >= wanted, from_top))
    return kept[-1].threshold if kept else NOBODY


@dataclass(frozen=True, slots=True)
class _Known:
    """Examples: what the local model's answer is better by (`gained`), their weights and units."""

    gained: Array
    weights: Array
    units: NDArray[np.int64]

    def at(self, threshold: float, is_local: NDArray[np.bool_], cloud_quality: float) -> Frontier:
        """What becomes of those that are `is_local`. For the lower end there is one unit more, as large as the others
        in the mean and answered as badly as can be: where few went to the local model and all were good, nothing else
        would doubt it."""
        share = min(1.0, float(self.weights[is_local].sum() / self.weights.sum()))
        gains = np.where(is_local, self.gained, 0.0)
        quality = cloud_quality + float(self.weights @ gains / self.weights.sum())
        one_more = self.weights.sum() / len(np.unique(self.units))
        counted, doubted = np.append(self.weights, one_more), np.append(gains, -cloud_quality)
        mean = float(counted @ doubted / counted.sum())
        apart = np.bincount(np.append(self.units, self.units.max() + 1), counted * (doubted - mean))
        low = cloud_quality + mean - Z * float(np.sqrt(np.square(apart).sum()) / counted.sum())
        return Frontier(
            threshold=threshold, local_share=share, quality=_held(quality), low=_held(low if share else quality)
        )


def _held(quality: float) -> float:
    return min(1.0, max(0.0, quality))
