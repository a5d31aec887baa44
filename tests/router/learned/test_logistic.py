"""The regression finds what made the labels, is sure of it as far as it may be, and its scores are what they say."""

import numpy as np
import pytest

from router.learned.logistic import Array, fit, sigmoid

TRUE = np.array([1.5, -2.0, 0.0, 0.5])


def drawn(count: int, seed: int) -> tuple[Array, Array]:
    """Inputs (count, 3), and labels that TRUE makes likely; its last number is the intercept."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(count, 3))
    return inputs, (rng.random(count) < sigmoid(inputs @ TRUE[:3] + TRUE[3])).astype(float)


def test_it_finds_the_coefficients_that_made_the_labels() -> None:
    inputs, labels = drawn(20_000, 1)
    fitted = fit(inputs, labels, np.ones(len(labels)), 0.01)
    assert np.abs(fitted.coefficients - TRUE).max() < 0.1


def test_nothing_near_the_best_coefficients_is_better() -> None:
    inputs, labels = drawn(200, 2)
    best = fit(inputs, labels, np.ones(200), 2.0).coefficients
    design = np.column_stack([inputs, np.ones(200)])

    def loss(at: Array) -> float:
        logits = design @ at
        return float((np.logaddexp(0, logits) - labels * logits).sum() + np.square(at[:3]).sum())

    rng = np.random.default_rng(0)
    assert all(loss(best) <= loss(best + step) + 1e-9 for step in rng.normal(scale=0.01, size=(50, 4)))


def test_its_deviations_are_those_of_fits_to_other_samples() -> None:
    at = np.array([[0.5, -0.5, 1.0]])
    fits = [fit(*drawn(400, seed), np.ones(400), 0.01) for seed in range(200)]
    found = np.std([float(one.logits(at)[0]) for one in fits])
    told = np.mean([one.deviation(at[0]) for one in fits])
    assert told == pytest.approx(found, rel=0.15)


def test_an_example_that_weighs_two_counts_like_two_and_separable_labels_do_not_run_away() -> None:
    inputs, labels = drawn(50, 3)
    twice = fit(np.vstack([inputs, inputs]), np.append(labels, labels), np.ones(100), 1.0)
    assert np.allclose(fit(inputs, labels, np.full(50, 2.0), 1.0).coefficients, twice.coefficients)
    line = np.linspace(-1, 1, 20)[:, None]
    apart = fit(line, (line[:, 0] > 0).astype(float), np.ones(20), 1e-6)
    assert np.isfinite(apart.coefficients).all()
    assert (apart.logits(line) > 0).tolist() == (line[:, 0] > 0).tolist()
