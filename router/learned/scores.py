"""How good predicted probabilities are, on examples that they were not learned from.

Brier's score is the mean squared error (0 is best); `brier_of_share` is what telling the share of good answers every
time would get. ECE is the mean distance between told and found shares in bins of as many examples each. AUC is the
chance that a good answer was given the higher probability (0.5: no better than guessing). In all of them an example
counts for as many as its weight says.
"""

from dataclasses import dataclass

import numpy as np

from router.learned.logistic import Array

BINS = 10
GOOD = 0.5
"""A label of at least this counts as good where only two kinds are told apart."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Of `examples` predictions."""

    examples: int
    good_share: float
    brier: float
    brier_of_share: float
    ece: float
    auc: float


def scored(probabilities: Array, labels: Array, weights: Array | None = None) -> Scores:
    """The scores of `probabilities` (examples) against `labels` (examples; 0 to 1), by `weights` (examples; above 0),
    or alike. There is at least one."""
    counted = np.ones(len(labels)) if weights is None else weights
    share = _mean(labels, counted)
    return Scores(
        len(labels),
        share,
        brier=_mean(np.square(probabilities - labels), counted),
        brier_of_share=_mean(np.square(share - labels), counted),
        ece=calibration_error(probabilities, labels, counted),
        auc=ranking(probabilities, labels, counted),
    )


def calibration_error(probabilities: Array, labels: Array, weights: Array) -> float:
    """The expected calibration error."""
    order = np.argsort(probabilities, kind="stable")
    gaps = [abs(float(weights[part] @ (probabilities[part] - labels[part]))) for part in np.array_split(order, BINS)]
    return sum(gaps) / float(weights.sum())


def ranking(probabilities: Array, labels: Array, weights: Array) -> float:
    """The area under the ROC curve; equal probabilities count half. 0.5 where all answers are of one kind."""
    is_good = labels >= GOOD
    _, at = np.unique(probabilities, return_inverse=True)
    goods, others = (np.bincount(at, weights * kind) for kind in (is_good, ~is_good))
    if not goods.any() or not others.any():
        return 0.5
    below = np.cumsum(others) - others / 2
    return float(goods @ below / (goods.sum() * others.sum()))


def _mean(values: Array, weights: Array) -> float:
    return float(weights @ values / weights.sum())
