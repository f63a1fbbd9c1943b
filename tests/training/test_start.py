import numpy as np
import pytest

from dploss.evaluation.recall import RecallEvaluator
from dploss.models.encoder import DPEncoder
from dploss.models.pca import PCA
from dploss.training.initialization import initialize


def started(
    rows: np.ndarray,
    latent_dim: int,
    hidden_dims: tuple[int, ...] = (8,),
    init: str = "pca",
    dims: tuple[int, ...] = (),
) -> DPEncoder:
    encoder = DPEncoder(rows.shape[1], hidden_dims, latent_dim, dims=dims)
    initialize(encoder, PCA.fit(rows, latent_dim), init, rows, k=5)
    return encoder


@pytest.mark.parametrize("init", ["pca", "random"])
def test_lengths_are_given_back_where_that_keeps_neighbours(builtin, init):
    encoder = started(builtin, 32, init=init)
    assert encoder.length_power > 0
    recall = RecallEvaluator(5).evaluate(builtin, encoder.encode(builtin)).value
    encoder.length_power.fill_(0)
    assert recall > RecallEvaluator(5).evaluate(builtin, encoder.encode(builtin)).value


@pytest.mark.parametrize("unit", [1e-30, 1, 1e30])
def test_more_than_the_length_is_restored_of_embeddings_and_its_mean_is_kept(builtin, unit):
    rows = (builtin * unit).astype(np.float32)
    encoder = started(rows, 32)
    assert encoder.length_power == 1.25
    lengths = np.linalg.norm(encoder.encode(rows).astype(np.float64), axis=1)
    assert lengths.mean() == pytest.approx(np.linalg.norm(rows.astype(np.float64) - rows.mean(0), axis=1).mean(), 1e-3)


def test_no_more_than_the_length_is_restored_without_a_gain(builtin):
    encoder = DPEncoder(768, (8,), 32, dims=(16, 32))
    encoder.log_gain = None
    initialize(encoder, PCA.fit(builtin, 32), "pca", builtin, k=5)
    assert encoder.length_power == 1


def test_lengths_are_left_where_they_keep_none():
    """Independent numbers of falling variance: what a projection drops is the same noise for every row."""
    spread = np.arange(1, 129) ** -0.75
    rows = (np.random.default_rng(0).normal(size=(1000, 128)) * spread).astype(np.float32)
    assert started(rows, 16).length_power < 1


def test_short_codes_of_a_matryoshka_encoder_get_lengths_where_its_longest_loses_none(builtin):
    rows = builtin[:, :64]
    assert started(rows, 64).length_power == 0
    assert started(rows, 64, dims=(8, 64)).length_power > 0


def test_a_linear_encoder_stays_linear(builtin):
    encoder = started(builtin, 32, hidden_dims=())
    np.testing.assert_allclose(encoder.encode(builtin), PCA.fit(builtin, 32).encode(builtin), atol=1e-5)


def test_three_rows_are_enough():
    assert started(np.eye(3, dtype=np.float32), 2).encode(np.eye(3, dtype=np.float32)).shape == (3, 2)
