"""How good the cloud's answers are, to requests like those whose local answers are known.

What goes to a cloud is mostly what is hard, so the mean of its scores is that of other requests than the local model
was scored on. Where the journal knows how likely either was, each score of the cloud counts by the odds that its
request had gone to the local model (a self-normalised estimate for the treated: Hirano, Imbens and Ridder 2003). That
needs requests that chance sent to the cloud; without enough of them the plain mean is all there is, and told as such.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from router.journal.entry import JournalEntry

CloudBy: TypeAlias = Literal["labels", "odds", "mean", "assumed"]
"""How it is known: from labels of the same requests, by odds, by the mean of other requests; or not at all."""

FEWEST_ANSWERS = 20
"""Of the cloud, each of which counts alike; where some count more, as much as so many (Kish's effective size)."""


@dataclass(frozen=True, slots=True)
class CloudQuality:
    """From 0 to 1."""

    value: float = 1.0
    by: CloudBy = "assumed"


UNKNOWN = CloudQuality()


def cloud_quality(entries: Iterable[JournalEntry], is_cloud: Callable[[str], bool]) -> CloudQuality:
    """By the scores of the clouds' answers in `entries`."""
    scores, weights = [], []
    for entry in entries:
        if entry.feedback is not None and entry.result.answered_by and is_cloud(entry.result.answered_by):
            scores.append(entry.feedback.score)
            weights.append(_local_odds(entry, is_cloud))
    if not scores:
        return UNKNOWN
    told, odds = np.array(scores), np.array(weights)
    if odds.any() and odds.sum() ** 2 / np.square(odds).sum() >= FEWEST_ANSWERS:
        return CloudQuality(float(odds @ told / odds.sum()), "odds")
    return CloudQuality(float(told.mean()), "mean")


def _local_odds(entry: JournalEntry, is_cloud: Callable[[str], bool]) -> float:
    """How much likelier it was that a local model went first than that a cloud did, which then did; 0 where none was
    drawn, or where a cloud only stood in."""
    to_cloud = sum(one.propensity for one in entry.options if is_cloud(one.name))
    to_local = sum(one.propensity for one in entry.options if not is_cloud(one.name))
    return to_local / to_cloud if to_cloud > 0 and is_cloud(entry.chosen) else 0.0
