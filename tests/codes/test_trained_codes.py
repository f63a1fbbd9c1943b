"""What training makes of codes: what is predicted, which bytes are chosen, and what both gain."""

import numpy as np
import pytest
from codes.fitted import N_BYTES, curved, fitted, latents

from dploss.codes.build import ALL_CODES, CODES, TRAINED, fit_code
from dploss.codes.second_order import FOLDS, SecondOrder, folds_of
from dploss.config import TrainConfig
from dploss.data import open_vectors
from dploss.losses import LOSSES, DPLossV3
from dploss.models.pca import PCA

REFINED = ["scalar", "trellis"]
BY_LOSS = sorted(set(TRAINED) - set(REFINED))
every_start = pytest.mark.parametrize("start", sorted(TRAINED))


def ridge_regression(features: np.ndarray, lost: np.ndarray, ridge: float) -> np.ndarray:
    squares = features.T @ features
    added = ridge * np.diag(squares).mean() * np.eye(len(squares))
    return np.linalg.solve(squares + added, features.T @ lost)


def nearest_share(scores: np.ndarray, rows: np.ndarray) -> float:
    exact = np.square(rows).sum(axis=1) - 2 * rows @ rows.T
    found = []
    for one in (exact.copy(), scores.astype(float)):
        np.fill_diagonal(one, np.inf)
        found.append(np.argsort(one, axis=1, kind="stable")[:, :10])
    return float(np.mean([len(np.intersect1d(a, b)) for a, b in zip(*found, strict=True)]) / 10)


def test_the_weights_are_those_of_ridge_regressions():
    random = np.random.default_rng(0)
    decoded = (random.standard_normal((300, 5)) * [3, 1, 2, 0.5, 1]).astype(np.float32)
    lost = np.column_stack([decoded[:, 0] * decoded[:, 2], decoded[:, 1] ** 2 - 1, random.standard_normal(300)])
    fitted_to = SecondOrder.fit(decoded, lost.astype(np.float32))
    found = fitted_to.whole
    own = decoded[:, found.axes].astype(float) / found.unit
    features = np.column_stack([*(own[:, i] * own[:, j] for i in range(5) for j in range(i, 5)), np.ones(300)])
    expected = features @ ridge_regression(features, lost, fitted_to.ridge)
    np.testing.assert_allclose(found.predict(decoded), expected, atol=1e-3)
    np.testing.assert_allclose(found.outputs @ found.outputs.T, np.eye(3), atol=1e-5)
    for rows, other in zip(folds_of(300), fitted_to.of_others, strict=True):
        rest = np.setdiff1d(np.arange(300), rows)
        expected = features[rows] @ ridge_regression(features[rest], lost[rest], fitted_to.ridge)
        np.testing.assert_allclose(other.predict(decoded[rows]), expected, atol=1e-3)
    again = SecondOrder.fit(decoded, lost.astype(np.float32), fitted_to.ridge)
    np.testing.assert_array_equal(again.whole.weights, found.weights)


def test_the_ridge_predicts_most_of_a_fold():
    random = np.random.default_rng(1)
    decoded = random.standard_normal((400, 4)).astype(np.float32)
    lost = (decoded[:, :1] * decoded[:, 1:2] + 3 * random.standard_normal((400, 6))).astype(np.float32)
    found = SecondOrder.fit(decoded, lost)
    fold = folds_of(400)[0]
    errors = {
        ridge: np.square(SecondOrder.fit(decoded, lost, ridge).of_others[0].predict(decoded[fold]) - lost[fold]).sum()
        for ridge in (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
    }
    assert found.ridge == min(errors, key=lambda ridge: errors[ridge])


def test_every_row_is_in_one_fold():
    assert sorted(np.concatenate(folds_of(101)).tolist()) == list(range(101)) and len(folds_of(101)) == FOLDS


def test_few_rows_have_few_products():
    found = SecondOrder.fit(latents(50), latents(50, seed=1)).whole
    assert len(found.axes) == 7
    wide = np.random.RandomState(0).standard_normal((300, 300)).astype(np.float32)
    assert SecondOrder.fit(wide, wide).whole.outputs.shape == (256, 300)


def test_the_gradient_is_that_of_the_predicted_products():
    random = np.random.default_rng(0)
    decoded, lost = (random.standard_normal((n, 6)).astype(np.float32) for n in (400, 400))
    fitted_to = SecondOrder.fit(decoded, lost, most_axes=4).whole
    gradient = fitted_to.gradient(decoded[:5], lost[:5])
    for row in range(5):
        for axis in range(6):
            change = np.zeros((1, 6), np.float32)
            change[0, axis] = 1e-2
            high, low = (fitted_to.predict(decoded[row : row + 1] + sign * change) for sign in (1, -1))
            expected = float(((high - low) * lost[row]).sum()) / 2e-2
            assert gradient[row, axis] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("start", ["binary", *REFINED])
def test_training_gains_neighbours_of_rows_that_it_has_not_seen(start):
    rows = curved(500, seed=1)
    closed, trained = CODES[start].fit(curved(3000), N_BYTES), fitted(TRAINED[start].name)
    before, after = (nearest_share(code.score(rows, code.encode(rows)), rows) for code in (closed, trained))
    assert after > before + (0.01 if start in REFINED else 0)


def test_numbers_that_are_trained_keep_more_neighbours_of_embeddings(monkeypatch):
    monkeypatch.setattr("dploss.codes.by_loss._BATCH", 128)
    monkeypatch.setattr("dploss.codes.by_loss._STEPS", 150)
    rows = np.asarray(open_vectors(limit=3500).rows, np.float32)
    latents = PCA.fit(rows[:3000], 64).encode_renormalised(rows)
    known, others = latents[:3000], latents[3000:]
    closed, code = fit_code("int8", known, 16), fit_code("int8", known, 16, DPLossV3())
    before, after = (nearest_share(one.score(others, one.encode(others)), others) for one in (closed, code))
    assert code.name == "trained int8" and after > before + 0.01


@every_start
def test_where_training_gains_nothing_the_start_is_kept(start):
    rows = np.random.RandomState(1).standard_normal((300, 24)).astype(np.float32)
    code = fit_code(start, rows, N_BYTES, DPLossV3())
    assert code.name == start
    np.testing.assert_array_equal(code.encode(rows), fit_code(start, rows, N_BYTES).encode(rows))


@every_start
def test_rows_that_are_all_alike_are_not_trained_on(start, monkeypatch):
    monkeypatch.setattr("dploss.codes.by_loss._BATCH", 64)
    rows = np.vstack([latents(1).repeat(200, axis=0), latents(1, seed=1)])
    for rotated in (rows, rows[::-1].copy()):
        code = fit_code(start, rotated, N_BYTES, DPLossV3())
        assert code.name == start and np.isfinite(code.score(rotated, code.encode(rotated))).all()


@pytest.mark.parametrize("start", REFINED)
def test_the_bytes_of_a_row_are_those_of_a_nearer_point(start):
    code, rows = fitted(TRAINED[start].name), curved(300, seed=1)
    centred = code.rotation.rotate(code.rotation.centre(rows))
    plain = code.linear.without_norm(np.ascontiguousarray(centred[:, : len(code.linear.bits)]))
    chosen = code.encode(rows)
    errors = [(np.square(centred - code._unscaled(codes)) * code.deviations).sum(axis=1) for codes in (plain, chosen)]
    assert (errors[1] <= errors[0] * (1 + 1e-5)).all() and errors[1].sum() < 0.98 * errors[0].sum()


@pytest.mark.parametrize("start", REFINED)
def test_products_are_predicted_along_axes_without_bits_too(start):
    rows, code = curved(500, seed=1), fitted(TRAINED[start].name)
    closed = CODES[start].fit(curved(3000), N_BYTES)
    errors = [np.square(one.decode(one.encode(rows)) - rows).mean() for one in (closed, code)]
    assert errors[1] < 0.9 * errors[0]


@pytest.mark.parametrize("start", REFINED)
def test_coarse_scores_are_near_the_refined(start):
    code, rows = fitted(TRAINED[start].name), curved(300, seed=1)
    codes, queries = code.encode(rows), curved(20, seed=2)
    fine, coarse = code.score(queries, codes), code.coarse.score(queries, codes)
    assert np.mean([np.corrcoef(one, other)[0, 1] for one, other in zip(fine, coarse, strict=True)]) > 0.9
    assert code.coarse.coarse is code.coarse


@pytest.mark.parametrize("start", BY_LOSS)
def test_queries_that_are_stored_find_as_many_neighbours(start):
    rows = curved(500, seed=1)
    shares = []
    for code in (CODES[start].fit(curved(3000), N_BYTES), fitted(TRAINED[start].name)):
        codes = code.encode(rows)
        if start == "binary":
            scores = code.hamming(codes, codes).astype(float)
        else:
            numbers = code.elements(codes)
            scores = np.square(numbers[:, None] - numbers).sum(axis=2)
        shares.append(nearest_share(scores, rows))
    assert shares[1] > shares[0] - 0.02


@pytest.mark.parametrize("start", BY_LOSS)
def test_squared_distances_are_right_in_the_mean(start):
    code, rows, queries = fitted(TRAINED[start].name), curved(500, seed=1), curved(200, seed=2)
    estimates = (code.score(queries, code.encode(rows)) + code.constants(queries)[:, None]) * code.unit**2
    true = np.square(queries[:, None] - rows).sum(axis=2)
    assert estimates.mean() == pytest.approx(true.mean(), rel=0.03)


def test_the_flipped_bits_are_those_of_a_greedy_loop():
    code, rows = fitted("trained binary"), curved(20, seed=3)
    centred = code.rotation.centre(rows).astype(float)
    metric = np.linalg.lstsq((code.length * code.query_axes).T.astype(float), code.error_axes.T.astype(float))[0].T

    def error(row: np.ndarray, bits: np.ndarray) -> float:
        lost = row - code.length * code.query_axes.astype(float) @ bits
        return float(lost @ metric @ lost)

    for row, found in zip(centred, np.unpackbits(code.encode(rows), axis=1), strict=True):
        bits = np.where(row @ code.rotation.axes > code.thresholds, 1.0, -1.0)
        for _ in range(round(8 * N_BYTES / 32)):
            flips = bits * (1 - 2 * np.eye(len(bits)))
            errors = [error(row, one) for one in flips]
            if min(errors) < error(row, bits):
                bits = flips[int(np.argmin(errors))]
        np.testing.assert_array_equal(found, bits > 0)


@pytest.mark.parametrize("start", ["binary", "int8"])
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_codes_are_trained_by_every_loss(start, name, monkeypatch):
    monkeypatch.setattr("dploss.codes.by_loss._STEPS", 30)
    monkeypatch.setattr("dploss.codes.by_loss._BATCH", 64)
    code = TRAINED[start].fit(curved(1200), 2, loss=LOSSES[name]())
    assert code.name in (start, f"trained {start}")
    assert np.isfinite(code.score(curved(5), code.encode(curved(5)))).all()


def test_the_config_knows_which_codes_are_trained_in_an_epoch():
    for name in CODES:
        epochs = TrainConfig(bytes=8, code=name).fitted_to(1000, 64).epochs
        assert epochs == (1 if name in TRAINED else 100)
        assert TrainConfig(bytes=8, code=name, epochs=100).fitted_to(1000, 64).epochs == 100
    assert TrainConfig().fitted_to(1000, 64).epochs == 100
    assert set(ALL_CODES) == set(CODES) | {code.name for code in TRAINED.values()}
