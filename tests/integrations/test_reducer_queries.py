"""DPReducer of rows that are searched with other queries, or by inner product."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from small_models import rows_and_queries

from dploss import DPReducer
from dploss.config import TrainConfig
from dploss.evaluation.recall import neighbours_kept
from dploss.evaluation.space import Space
from dploss.models.asymmetric import AsymmetricEncoder
from dploss.models.encoder import DPEncoder
from dploss.training.launch import new_experiment

DATA = ROWS, QUERIES = rows_and_queries(300, 120, 24)
SMALL = {"n_components": 8, "epochs": 2, "batch_size": 64, "hidden_dims": (12,), "random_state": 3}


@pytest.fixture(scope="module")
def fitted() -> DPReducer:
    """By inner product, with queries; not to be changed."""
    return DPReducer(metric="ip", **SMALL).fit(ROWS, queries=QUERIES)


def recall(rows, queries, latents, latent_metric, metric="ip", k=5):
    """Share of the k nearest rows that queries keep; the latents are of rows and of queries."""
    stored, asked = map(torch.from_numpy, latents)
    originals = Space("original", torch.from_numpy(rows), torch.from_numpy(queries), metric, are_rows=False)
    found = Space("latent", stored, asked, latent_metric, are_rows=False)
    return neighbours_kept(originals, found, [(k, k)]).mean() / k


def latents_of(reducer):
    return reducer.transform(ROWS), reducer.transform_queries(QUERIES)


def test_rows_and_queries_have_latents_of_the_training_that_train_py_does(fitted, tmp_path):
    np.save(tmp_path / "rows.npy", ROWS)
    np.save(tmp_path / "queries.npy", QUERIES)
    config = TrainConfig(
        data=str(tmp_path / "rows.npy"),
        queries=str(tmp_path / "queries.npy"),
        metric="ip",
        latent_dim=8,
        epochs=2,
        batch_size=64,
        hidden_dims=(12,),
        seed=3,
        val_fraction=0,
        checkpoints_dir=str(tmp_path),
        quiet=True,
    )
    run = new_experiment(config)
    run.run()
    rows, queries = latents_of(fitted)
    np.testing.assert_array_equal(rows, run.encoder.encode(ROWS))
    np.testing.assert_array_equal(queries, run.encoder.encode_queries(QUERIES))


def test_queries_make_inner_products_find_more(fitted):
    latents = latents_of(fitted)
    assert isinstance(fitted.encoder_, AsymmetricEncoder) and fitted.encoder_.latent_metric == "ip"
    assert (latents[0].shape, latents[1].shape) == ((300, 8), (120, 8))
    asked = recall(ROWS, QUERIES, latents, "ip")
    alone = DPReducer(metric="ip", **SMALL).fit(ROWS)
    assert asked > recall(ROWS, QUERIES, latents_of(alone), "ip") + 0.05 and asked > 0.5


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_the_side_of_queries_is_chosen(metric):
    own = DPReducer(metric=metric, **SMALL).fit(ROWS, queries=QUERIES)
    assert isinstance(own.encoder_, AsymmetricEncoder)
    plain = DPReducer(metric=metric, **SMALL).fit(ROWS)
    assert type(plain.encoder_) is DPEncoder
    np.testing.assert_array_equal(plain.transform_queries(QUERIES), plain.transform(QUERIES))
    rows, queries = (one / np.linalg.norm(one, axis=1, keepdims=True) if metric == "cosine" else one for one in DATA)
    found = recall(rows, queries, latents_of(own), "ip", "euclidean")
    assert found > recall(rows, queries, latents_of(plain), "euclidean", "euclidean")


def test_codes_are_scored_for_queries():
    reducer = DPReducer(metric="ip", bytes=8, code="int8", **SMALL).fit(ROWS, queries=QUERIES)
    codes, queries = latents_of(reducer)
    assert (codes.dtype, codes.shape) == (np.uint8, (300, 8)) and queries.dtype == np.float32
    code = reducer.encoder_.code
    scores = code.score(queries, codes)
    points, biases = code.points(codes)
    expected = biases - 2 * code.project(queries).astype(float) @ points.T.astype(float)
    differences = scores - expected
    np.testing.assert_allclose(differences, np.broadcast_to(differences[:, :1], scores.shape), atol=1e-3)
    # No norms, as squared distances have: the largest product is nearest.
    products = queries.astype(float) @ reducer.inverse_transform(codes).astype(float).T
    assert np.mean([np.corrcoef(*pair)[0, 1] for pair in zip(-scores, products, strict=True)]) > 0.99
    true = QUERIES.astype(float) @ ROWS.astype(float).T
    found = [
        len(np.intersect1d(*pair)) / 5
        for pair in zip(np.argsort(scores, axis=1)[:, :5], np.argsort(-true, axis=1)[:, :5], strict=True)
    ]
    assert np.mean(found) > 0.4


def test_dtypes_clones_and_pickles(fitted):
    assert fitted.transform_queries(QUERIES.astype(np.float64)).dtype == np.float64
    assert fitted.transform_queries(QUERIES[:3].tolist()).dtype == np.float32
    copy = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copy.transform_queries(QUERIES), fitted.transform_queries(QUERIES))
    assert clone(fitted).metric == "ip"
    one = DPReducer(metric="ip", **SMALL).fit(ROWS, queries=QUERIES[:1])
    assert np.isfinite(one.transform_queries(QUERIES)).all()


def test_the_random_states_stay_as_they_were():
    torch.manual_seed(5)
    np.random.seed(5)
    expected = torch.rand(3), np.random.rand(3)
    torch.manual_seed(5)
    np.random.seed(5)
    DPReducer(**SMALL | {"epochs": 0}).fit(ROWS, queries=QUERIES)
    assert torch.equal(torch.rand(3), expected[0]) and np.array_equal(np.random.rand(3), expected[1])


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        (QUERIES[:, :5], "X has 5 features, but DPReducer is expecting 24 features"),
        (QUERIES[0], "Expected 2D array"),
        (QUERIES[:0], "Found array with 0 sample"),
        (QUERIES * np.nan, "contains NaN"),
    ],
)
def test_queries_that_cannot_be_used_are_refused(fitted, queries, message):
    with pytest.raises(ValueError, match=message):
        DPReducer(**SMALL).fit(ROWS, queries=queries)
    with pytest.raises(ValueError, match=message):
        fitted.transform_queries(queries)
