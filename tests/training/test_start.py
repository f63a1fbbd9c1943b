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
