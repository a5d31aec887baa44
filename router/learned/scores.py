"""How good predicted probabilities are, on examples that they were not learned from.

Brier's score is the mean squared error (0 is best); `brier_of_share` is what telling the share of good answers every
time would get. ECE is the mean distance between told and found shares in bins of as many examples each. AUC is the
chance that a good answer was given the higher probability (0.5: no better than guessing).
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


def scored(probabilities: Array, labels: Array) -> Scores:
    """The scores of `probabilities` (examples) against `labels` (examples; 0 to 1). There is at least one."""
    share = float(labels.mean())
    return Scores(
        len(labels),
        share,
        brier=float(np.square(probabilities - labels).mean()),
        brier_of_share=float(np.square(share - labels).mean()),
        ece=calibration_error(probabilities, labels),
        auc=ranking(probabilities, labels),
    )


def calibration_error(probabilities: Array, labels: Array) -> float:
    """The expected calibration error."""
    order = np.argsort(probabilities, kind="stable")
    gaps = [
        abs(float(probabilities[part].mean() - labels[part].mean())) * len(part)
        for part in np.array_split(order, BINS)
        if len(part)
    ]
    return sum(gaps) / len(labels)


def ranking(probabilities: Array, labels: Array) -> float:
    """The area under the ROC curve; equal probabilities count half. 0.5 where all answers are of one kind."""
    is_good = labels >= GOOD
    goods, others = int(is_good.sum()), int((~is_good).sum())
    if not goods or not others:
        return 0.5
    _, at, counts = np.unique(probabilities, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[at]
    return float((ranks[is_good].sum() - goods * (goods + 1) / 2) / (goods * others))
