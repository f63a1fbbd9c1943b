"""Codes with a decoder of second order: what it predicts, and what it gains."""

import numpy as np
import pytest
from fitted import fitted, latents

from dploss.codes.build import REFINED, fit_code
from dploss.codes.second_order import SecondOrder


def curved(n: int, seed: int = 0) -> np.ndarray:
    """(n, 20) float32 rows whose last ten coordinates are products of the first ten."""
    random = np.random.default_rng(seed)
    first = random.standard_normal((n, 10))
    return np.column_stack([first, 0.5 * first * np.roll(first, 1, axis=1)]).astype(np.float32)


def test_the_weights_are_those_of_a_ridge_regression():
    random = np.random.default_rng(0)
    decoded = (random.standard_normal((300, 5)) * [3, 1, 2, 0.5, 1]).astype(np.float32)
    lost = np.column_stack([decoded[:, 0] * decoded[:, 2], decoded[:, 1] ** 2 - 1, random.standard_normal(300)])
    found = SecondOrder.fit(decoded, lost.astype(np.float32))
    own = decoded[:, found.axes].astype(float) / found.unit
    pairs = [own[:, i] * own[:, j] for i in range(5) for j in range(i, 5)]
    features = np.column_stack([*pairs, np.ones(300)])
    squares = features.T @ features
    candidates = [
        np.linalg.solve(squares + ridge * np.diag(squares).mean() * np.eye(16), features.T @ lost)
        for ridge in (0.03, 0.1, 0.3, 1, 3, 10)
    ]
    nearest = min(candidates, key=lambda weights: np.abs(weights - found.weights).max())
    np.testing.assert_allclose(found.weights, nearest, atol=1e-4)
    np.testing.assert_allclose(found.predict(decoded), features @ nearest, atol=1e-3)


def test_a_residual_that_is_a_product_is_found():
    decoded = np.random.default_rng(0).normal(size=(5000, 4)).astype(np.float32) * [3, 2, 1, 0.1]
    residuals = np.stack([decoded[:, 0] * decoded[:, 1], decoded[:, 2] ** 2 - 1], axis=1).astype(np.float32)
    noisy = residuals + np.random.default_rng(1).normal(size=residuals.shape).astype(np.float32)
    fitted = SecondOrder.fit(decoded.astype(np.float32), noisy, 3)
    assert np.square(fitted.predict(decoded) - residuals).mean() < 0.05 * np.square(residuals).mean()
    # Of axes whose products are not taken, nothing.
    two = SecondOrder.fit(decoded.astype(np.float32), noisy, 2).predict(decoded)
    assert np.square(two[:, 1] - residuals[:, 1]).mean() > 0.9 * residuals[:, 1].var()


def test_noise_is_left_out():
    random = np.random.default_rng(0)
    decoded, noise = random.normal(size=(2, 400, 12)).astype(np.float32)
    fitted = SecondOrder.fit(decoded, noise, 12).predict(random.normal(size=(1000, 12)).astype(np.float32))
    assert np.square(fitted).mean() < 0.2


def test_a_row_is_predicted_alike_in_any_batch():
    decoded = latents(1500)
    found = SecondOrder.fit(decoded, latents(1500, seed=1))
    whole = found.predict(decoded)
    parts = [found.predict(part) for part in np.split(decoded, [1, 700, 1025])]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("name", sorted(REFINED))
def test_products_are_predicted_along_axes_without_bits_too(name):
    rows, more = curved(4000), curved(500, seed=1)
    errors = [
        np.square(code.decode(code.encode(more)) - more).mean()
        for code in (fit_code(name, rows, 5), fit_code(REFINED[name], rows, 5))
    ]
    assert errors[1] < 0.8 * errors[0]


@pytest.mark.parametrize("name", sorted(REFINED))
def test_only_the_byte_of_the_norm_is_another(name):
    rows = latents(200, seed=1)
    plain, refined = fitted(name).encode(rows), fitted(REFINED[name]).encode(rows)
    np.testing.assert_array_equal(refined[:, :-1], plain[:, :-1])
    assert (refined[:, -1] != plain[:, -1]).any()


@pytest.mark.parametrize("name", sorted(REFINED))
def test_coarse_scores_are_near_the_refined(name):
    code, rows = fitted(REFINED[name]), latents(300, seed=1)
    codes, queries = code.encode(rows), latents(20, seed=2)
    fine, coarse = code.score(queries, codes), code.coarse.score(queries, codes)
    assert np.mean([np.corrcoef(one, other)[0, 1] for one, other in zip(fine, coarse, strict=True)]) > 0.95
    assert code.coarse.coarse is code.coarse
