"""Logistic regression with a penalty on the squares of its coefficients, by Newton's method, and how sure it is.

Iteratively reweighted least squares (Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, 4.4.1). The
penalty is a normal prior; around the best coefficients their posterior is taken as normal too (Laplace's approximation:
Bishop, Pattern Recognition and Machine Learning, 4.5), with the inverse of the curvature as its covariance.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

INTERCEPT_PENALTY = 1e-6
MOST_STEPS = 100
MOST_HALVINGS = 30
TOLERANCE = 1e-8


@dataclass(frozen=True, slots=True)
class Fitted:
    """`coefficients`, the intercept last. `factor` is square and lower-triangular: the squares of `factor @ x` (`x` an
    input with a 1 at its end) add up to the variance of `x @ coefficients`."""

    coefficients: Array
    factor: Array

    def logits(self, inputs: Array) -> Array:
        """Log-odds of `inputs` (examples, features)."""
        found: Array = with_one(inputs) @ self.coefficients
        return found

    def deviations(self, inputs: Array) -> Array:
        """The standard deviations of the logits of `inputs` (examples, features)."""
        found: Array = np.sqrt(np.square(with_one(inputs) @ self.factor.T).sum(axis=1))
        return found

    def deviation(self, one: Array) -> float:
        """The standard deviation of the logit of one input (features). Not by a matrix product: for that BLAS would
        wake threads, which wait for a core longer than this takes while a model runs beside it."""
        return float(np.sqrt(np.square((self.factor * np.append(one, 1.0)).sum(axis=1)).sum()))


@dataclass(frozen=True, slots=True)
class _Problem:
    """What is to be minimised: the loss of `labels` given `design` (examples, features and a one), and the penalty."""

    design: Array
    labels: Array
    weights: Array
    prior: Array

    def loss(self, coefficients: Array) -> float:
        logits = self.design @ coefficients
        losses = np.logaddexp(0.0, logits) - self.labels * logits
        return float(self.weights @ losses + 0.5 * self.prior @ np.square(coefficients))

    def slopes(self, coefficients: Array) -> tuple[Array, Array]:
        """The first derivatives, and the second ones."""
        shares = sigmoid(self.design @ coefficients)
        gradient = self.design.T @ (self.weights * (shares - self.labels)) + self.prior * coefficients
        scaled = self.design * (self.weights * shares * (1.0 - shares))[:, None]
        return gradient, scaled.T @ self.design + np.diag(self.prior)

    def along(self, coefficients: Array, step: Array) -> Array:
        """`coefficients` less as much of `step` as makes the loss no larger."""
        before = self.loss(coefficients)
        for _ in range(MOST_HALVINGS):
            if self.loss(coefficients - step) <= before:
                return coefficients - step
            step = step / 2
        return coefficients


def fit(inputs: Array, labels: Array, weights: Array, penalty: float) -> Fitted:
    """The best coefficients for `labels` (examples; 0 to 1, shares too) of `inputs` (examples, features)."""
    design = with_one(inputs)
    prior = np.full(design.shape[1], penalty)
    prior[-1] = INTERCEPT_PENALTY
    problem = _Problem(design, labels, weights, prior)
    coefficients = np.zeros(design.shape[1])
    for _ in range(MOST_STEPS):
        gradient, curvature = problem.slopes(coefficients)
        step = np.asarray(np.linalg.solve(curvature, gradient), np.float64)
        coefficients = problem.along(coefficients, step)
        if float(gradient @ step) < TOLERANCE:
            break
    lower = np.linalg.cholesky(problem.slopes(coefficients)[1])
    return Fitted(coefficients, np.asarray(np.linalg.solve(lower, np.eye(len(lower))), np.float64))


def sigmoid(logits: Array) -> Array:
    """Probabilities of log-odds, without overflow."""
    found: Array = 0.5 * (1.0 + np.tanh(0.5 * logits))
    return found


def with_one(inputs: Array) -> Array:
    """`inputs` (examples, features) with a column of ones at the end, for the intercept."""
    return np.column_stack([inputs, np.ones(len(inputs))])
