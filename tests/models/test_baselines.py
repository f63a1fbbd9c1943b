import numpy as np
import pytest
from sklearn.decomposition import PCA as SklearnPCA
from sklearn.random_projection import GaussianRandomProjection

from dploss.models.pca import PCA, RandomProjection, Truncation


@pytest.mark.parametrize("latent_dim", [1, 64, 768])
def test_pca_agrees_with_scikit_learn(builtin, latent_dim):
    ours = PCA.fit(builtin, latent_dim)
    theirs = SklearnPCA(min(latent_dim, 100), svd_solver="full").fit(builtin)
    count = min(latent_dim, 50)
    # The same axes up to their sign: every cosine is 1 or -1.
    cosines = np.abs(np.sum(ours.components[:count] * theirs.components_[:count], axis=1))
    np.testing.assert_allclose(cosines, 1, atol=1e-3)
    np.testing.assert_allclose(ours.components @ ours.components.T, np.eye(latent_dim), atol=1e-4)
    np.testing.assert_allclose(ours.encode(builtin).mean(axis=0), 0, atol=1e-5)


def test_chunks_make_no_difference(builtin, monkeypatch):
    whole = PCA.fit(builtin, 8)
    monkeypatch.setattr("dploss.models.pca.CHUNK_ROWS", 70)
    np.testing.assert_allclose(PCA.fit(builtin, 8).components, whole.components, atol=1e-4)


def test_scale_is_the_spread_of_a_coordinate():
    rows = np.random.default_rng(0).normal(3, 2, size=(5000, 4)).astype(np.float32)
    assert PCA.fit(rows, 2).scale == pytest.approx(2, rel=0.02)


def test_constant_rows_have_scale_one():
    assert PCA.fit(np.ones((10, 4), np.float32), 2).scale == 1


@pytest.mark.parametrize(("latent_dim", "seed"), [(1, 0), (64, 7)])
def test_random_projection_is_scikit_learns(builtin, latent_dim, seed):
    ours = RandomProjection.draw(768, latent_dim, seed).encode(builtin)
    theirs = GaussianRandomProjection(latent_dim, random_state=seed).fit_transform(builtin)
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("latent_dim", [1, 3, 64, 512])
def test_random_projection_stays_the_same_for_a_seed(latent_dim):
    # As drawn before scikit-learn drew it, so that figures in reports stay comparable.
    drawn = np.random.RandomState(7).normal(0, latent_dim**-0.5, (latent_dim, 768)).astype(np.float32)
    np.testing.assert_array_equal(RandomProjection.draw(768, latent_dim, 7).components, drawn)


def test_truncation_keeps_the_first_dimensions_and_the_norm(builtin):
    truncated = Truncation(3).encode(builtin)
    np.testing.assert_allclose(np.linalg.norm(truncated, axis=1), np.linalg.norm(builtin, axis=1), rtol=1e-5)
    directions = builtin[:, :3] / np.linalg.norm(builtin[:, :3], axis=1, keepdims=True)
    np.testing.assert_allclose(truncated / np.linalg.norm(truncated, axis=1, keepdims=True), directions, atol=1e-6)


def test_renormalised_rows_are_as_far_from_0_as_theirs_from_the_mean(builtin):
    pca = PCA.fit(builtin, 16)
    for dim in (16, 4):
        encoded = pca.encode_renormalised(builtin, dim)
        projected = (builtin - builtin.mean(axis=0)) @ pca.components[:dim].T
        norms = (np.linalg.norm(one, axis=1, keepdims=True) for one in (builtin - builtin.mean(axis=0), projected))
        np.testing.assert_allclose(encoded, projected * np.divide(*norms), atol=1e-5)
    assert not pca.encode_renormalised(np.tile(pca.mean, (2, 1))).any()


@pytest.mark.parametrize("limit", [200, 40])
def test_what_is_lost_is_what_the_components_leave(builtin, limit, monkeypatch):
    """By the covariance, and by the Gram matrix of rows that are fewer than the dimensions."""
    rows = builtin[:limit]
    spectrum = np.linalg.svd(rows.astype(np.float64) - rows.mean(axis=0), compute_uv=False) ** 2
    for most in (4096, 500):
        monkeypatch.setattr("dploss.models.pca.MOST_DIMENSIONS", most)
        pca = PCA.fit(rows, 32)
        for dim in (1, 8, 32):
            assert pca.lost(dim) == pytest.approx(spectrum[dim:].sum() / spectrum.sum(), abs=1e-6)


@pytest.mark.parametrize("count", [200, 40])
def test_long_rows_have_the_same_components(builtin, count, monkeypatch):
    rows = builtin[:count]
    whole = PCA.fit(rows, 30)
    monkeypatch.setattr("dploss.models.pca.MOST_DIMENSIONS", 500)
    long = PCA.fit(rows, 30)
    np.testing.assert_allclose(long.encode(rows), whole.encode(rows), atol=2e-4)
    assert long.scale == pytest.approx(whole.scale, rel=1e-4)
    # Beyond the rank there are directions still, at right angles to the others.
    full = PCA.fit(rows, 60)
    np.testing.assert_allclose(full.components @ full.components.T, np.eye(60), atol=1e-4)


def test_one_row_has_components_too():
    pca = PCA.fit(np.ones((1, 4), np.float32), 2)
    assert pca.scale == 1
    np.testing.assert_allclose(pca.components @ pca.components.T, np.eye(2), atol=1e-6)


def test_equal_long_rows_have_components_too(monkeypatch):
    monkeypatch.setattr("dploss.models.pca.MOST_DIMENSIONS", 3)
    pca = PCA.fit(np.ones((5, 4), np.float32), 2)
    assert pca.scale == 1 and np.isfinite(pca.components).all() and np.abs(pca.encode(np.ones((5, 4)))).max() == 0


@pytest.mark.parametrize("most_dimensions", [4096, 500])
@pytest.mark.parametrize("length", [1e3, 1e5])
def test_a_row_far_away_costs_the_other_components_no_digits(builtin, length, most_dimensions, monkeypatch):
    monkeypatch.setattr("dploss.models.pca.MOST_DIMENSIONS", most_dimensions)
    rows = builtin[:400].copy()
    rows[17] *= np.float32(length)
    centred = rows - rows.mean(axis=0, dtype=np.float64)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    ours = PCA.fit(rows, 8)
    np.testing.assert_allclose(np.abs(np.sum(ours.components * directions[:8], axis=1)), 1, atol=1e-4)


@pytest.mark.parametrize("unit", [2.0**-83, 2.0**83, 1e-25, 1e15])
@pytest.mark.parametrize("most_dimensions", [4096, 500])
def test_units_change_pca_by_the_unit_alone(builtin, unit, most_dimensions, monkeypatch):
    monkeypatch.setattr("dploss.models.pca.MOST_DIMENSIONS", most_dimensions)
    plain, scaled = PCA.fit(builtin, 8), PCA.fit(builtin * np.float32(unit), 8)
    assert scaled.scale == pytest.approx(plain.scale * unit, rel=1e-5)
    np.testing.assert_allclose(scaled.components, plain.components, atol=1e-5)
    wanted = plain.encode_renormalised(builtin)
    got = scaled.encode_renormalised(builtin * np.float32(unit))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got / np.float32(unit), wanted, atol=1e-5)


def test_truncation_restores_norms_in_any_unit(builtin):
    plain = Truncation(3).encode(builtin)
    np.testing.assert_allclose(np.linalg.norm(plain, axis=1), np.linalg.norm(builtin, axis=1), rtol=1e-5)
    np.testing.assert_array_equal(Truncation(3).encode(builtin * np.float32(2.0**-83)), plain * np.float32(2.0**-83))
