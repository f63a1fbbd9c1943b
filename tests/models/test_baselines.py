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


def test_truncation_keeps_the_first_numbers(builtin):
    np.testing.assert_array_equal(Truncation(3).encode(builtin), builtin[:, :3])


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
