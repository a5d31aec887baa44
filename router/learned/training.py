"""From examples to a model: the penalty is chosen, the calibration fitted and everything scored on examples held out.

Requests that look alike are held out together, and so are those of one conversation: no score is of what was learned
by heart. The same examples in
the same order give the same model.
"""

import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from replicas.errors import SettingsError
from router.learned.cloud_quality import UNKNOWN, CloudQuality
from router.learned.logistic import Array, Fitted, fit, sigmoid
from router.learned.model import LEAST_SCALE, Model, ModelFile, Summary, inputs_of
from router.learned.scores import GOOD, scored
from router.learned.thresholds import frontier_of
from router.learned.traits import NAMES, Traits

FOLDS = 5
PENALTIES = (10.0, 30.0, 100.0)
FEWEST, FEWEST_OF_A_KIND = 60, 12
"""Fewer examples, or fewer good or bad ones, say nothing that holds for other requests."""

CALIBRATION_PENALTY = 1e-3
DIGITS = 6
USUAL = 0.9
"""Share of the examples than which no request may be less sure. Of those that are like the examples about a tenth are
left to the rules so; of those that are not, most (docs/decisions/0012-what-the-predictor-is-sure-of.md)."""


@dataclass(frozen=True, slots=True)
class Example:
    """A request, and how good the local model's answer to it was (0 to 1). It counts `weight` times. Those of one
    `unit` (a conversation) are alike, and tell less than as many others would; empty: it is on its own."""

    traits: Traits
    good: float
    weight: float = 1.0
    unit: str = ""


@dataclass(frozen=True, slots=True)
class _Data:
    """Examples as arrays: `inputs` (examples, features), scaled; the numbers of their `units`; `fold` is in which each
    is held out."""

    inputs: Array
    labels: Array
    weights: Array
    units: NDArray[np.int64]
    fold: NDArray[np.int64]

    def held_out(self, penalty: float) -> "_HeldOut":
        """Each example by coefficients that it had no part in."""
        logits, deviations = np.zeros(len(self.labels)), np.zeros(len(self.labels))
        for fold in range(FOLDS):
            out, kept = self.fold == fold, self.fold != fold
            fitted = fit(self.inputs[kept], self.labels[kept], self.weights[kept], penalty)
            logits[out], deviations[out] = fitted.logits(self.inputs[out]), fitted.deviations(self.inputs[out])
        return _HeldOut(logits, deviations)

    def loss(self, logits: Array) -> float:
        """The mean log loss of `logits`."""
        losses = np.logaddexp(0.0, logits) - self.labels * logits
        return float(self.weights @ losses / self.weights.sum())


@dataclass(frozen=True, slots=True)
class _HeldOut:
    """Predictions of examples: logits, and how unsure each is, as a standard deviation."""

    logits: Array
    deviations: Array


def train(examples: Sequence[Example], local: str, cloud: CloudQuality = UNKNOWN, until: float = 0.0) -> Model:
    """A model of the answers of `local`. `cloud` is how good the cloud's answers to such requests are, `until` is when
    the newest decision of a journal was made that the examples are of, in seconds since 1970. Raises SettingsError if
    there are too few examples."""
    _require_enough(examples)
    plain = inputs_of([one.traits for one in examples])
    mean, scale = plain.mean(axis=0), np.maximum(plain.std(axis=0), LEAST_SCALE)
    mean, scale = _rounded(mean), _rounded(scale)
    data = _Data(
        (plain - mean) / scale,
        np.array([one.good for one in examples]),
        np.array([one.weight for one in examples]),
        _units(examples),
        np.array([zlib.crc32((one.unit or one.traits.line).encode()) % FOLDS for one in examples]),
    )
    tried = {penalty: data.held_out(penalty) for penalty in PENALTIES}
    penalty = min(PENALTIES, key=lambda one: data.loss(tried[one].logits))
    logits = tried[penalty].logits
    slope, offset = _calibration(logits, data.labels, data.weights)
    told = _calibrated(logits, data)
    fitted = fit(data.inputs, data.labels, data.weights, penalty)
    counts = plain[:, : len(NAMES)]
    scores = asdict(scored(told, data.labels, data.weights))
    return Model(
        ModelFile(
            local=local,
            until=until,
            mean=_listed(mean),
            scale=_listed(scale),
            least=_listed(counts.min(axis=0)),
            most=_listed(counts.max(axis=0)),
            coefficients=_listed(fitted.coefficients),
            factor=_triangle(fitted),
            widest=float(f"{np.quantile(tried[penalty].deviations, USUAL):.{DIGITS}g}"),
            calibration=(slope, offset),
            frontier=frontier_of(told, data.labels, data.weights, data.units, cloud.value),
            summary=Summary(penalty=penalty, folds=FOLDS, cloud_quality=cloud.value, cloud_by=cloud.by, **scores),
        )
    )


def _units(examples: Sequence[Example]) -> NDArray[np.int64]:
    """The number of the unit of each example."""
    _, numbers = np.unique([one.unit or f" {at}" for at, one in enumerate(examples)], return_inverse=True)
    return np.asarray(numbers, np.int64)


def _require_enough(examples: Sequence[Example]) -> None:
    goods = sum(one.good >= GOOD for one in examples)
    others = len(examples) - goods
    if len(examples) < FEWEST or min(goods, others) < FEWEST_OF_A_KIND:
        raise SettingsError(
            f"{len(examples)} examples, {goods} of them good and {others} not, are too few to learn from: at least "
            f"{FEWEST}, and {FEWEST_OF_A_KIND} of each kind; collect more feedback (POST /v1/feedback), or go back "
            "further with --since"
        )


def _calibration(logits: Array, labels: Array, weights: Array) -> tuple[float, float]:
    """Platt's slope and offset. The slope is held above 0, so that more stays more."""
    found = fit(logits[:, None], labels, weights, CALIBRATION_PENALTY).coefficients
    return float(f"{max(found[0], 1e-3):.{DIGITS}g}"), float(f"{found[1]:.{DIGITS}g}")


def _calibrated(logits: Array, data: _Data) -> Array:
    """The probabilities of held-out `logits`, each by a calibration that its own fold had no part in."""
    found = np.zeros(len(logits))
    for fold in range(FOLDS):
        out, kept = data.fold == fold, data.fold != fold
        slope, offset = _calibration(logits[kept], data.labels[kept], data.weights[kept])
        found[out] = sigmoid(slope * logits[out] + offset)
    return found


def _triangle(fitted: Fitted) -> tuple[float, ...]:
    return _listed(fitted.factor[np.tril_indices(len(fitted.factor))], digits=4)


def _rounded(values: Array) -> Array:
    return np.array(_listed(values))


def _listed(values: Array, digits: int = DIGITS) -> tuple[float, ...]:
    return tuple(float(f"{value:.{digits}g}") for value in values)
