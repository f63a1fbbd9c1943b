"""The encoder with a side for queries, and its closed form, against float64 linear algebra written out."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_models import rows_and_queries, two_sides

from dploss.errors import SettingError
from dploss.models.asymmetric import AsymmetricEncoder, BothSides
from dploss.models.sphering import Sphering

METRICS = ("euclidean", "cosine", "ip")
DIM = 8


def normalised(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def compared(metric, *arrays):
    """As a training has them: float32, normalised under cosine."""
    return [(normalised(one) if metric == "cosine" else one).astype(np.float32) for one in arrays]


def written(metric, rows, asking):
    """Rows and queries in float64 whose inner products rank the rows, about the rows' mean; see `Sphering`."""
    rows, asking = np.asarray(rows, float), np.asarray(asking, float)
    mean = rows.mean(axis=0)
    x = rows - mean
    if metric != "euclidean":
        return x, asking
    unit = x.std()
    half = np.square(x).sum(axis=1) / 2
    return np.column_stack([x, (half - half.mean()) / unit]), np.column_stack(
        [asking - mean, np.full(len(asking), -unit)]
    )


def products(encoder, rows, queries):
    return encoder.encode_queries(queries).astype(float) @ encoder.encode(rows).astype(float).T


@pytest.mark.parametrize("metric", METRICS)
def test_both_sides_are_the_best_approximation_of_that_rank_in_the_mean_square(metric):
    rows, queries = compared(metric, *rows_and_queries(300, 100, DIM))
    encoder = two_sides(rows, queries, metric, hidden_dims=(), latent_dim=3)
    x, q = written(metric, rows, queries)
    _, x_as_q = written(metric, rows, rows)
    # Rows are queries, too, with the weight that few queries leave them.
    width = q.shape[1]
    of_rows = width / (width + 2 * len(queries))
    weights = np.sqrt([*[(1 - of_rows) / len(q)] * len(q), *[of_rows / len(x)] * len(x)])[:, None]
    u, s, v = np.linalg.svd(weights * np.vstack([q, x_as_q]) @ x.T, full_matrices=False)
    found = weights * products(encoder, rows, np.vstack([queries, rows]))
    np.testing.assert_allclose(found, (u[:, :3] * s[:3]) @ v[:3], atol=1e-5 * s[0])


@pytest.mark.parametrize("metric", METRICS)
def test_queries_are_sphered(metric):
    rows, queries = compared(metric, *rows_and_queries(500, 100_000, DIM))
    one = Sphering.fit(rows, queries, metric, 3)
    encoder = two_sides(rows, queries, metric, latent_dim=3)
    sphered = encoder.sphered_queries(torch.from_numpy(queries)).double().numpy()
    second = sphered.T @ sphered / len(sphered)
    # Up to a unit, in which sphered rows are near 1.
    np.testing.assert_allclose(second / second.trace() * len(second), np.eye(len(second)), atol=0.01)
    rows_sphered = encoder.sphered(torch.from_numpy(rows)).double().numpy()
    assert np.square(rows_sphered).mean() == pytest.approx(1, rel=1e-4)
    np.testing.assert_allclose(one.rows @ one.queries, np.eye(len(second)), atol=1e-4)


def test_without_power_nothing_is_sphered():
    rows, queries = rows_and_queries(300, 100, DIM)
    one = Sphering.of_powers(rows, queries, "ip", 3, (0.0,))[0]
    np.testing.assert_allclose(one.rows / one.rows[0, 0], np.eye(DIM), atol=1e-6)
    axes = np.linalg.eigh(np.cov(rows.astype(float).T))[1][:, :-4:-1].T
    np.testing.assert_allclose(np.abs((one.pca.components * axes).sum(axis=1)), 1, atol=1e-4)


@given(
    metric=st.sampled_from(METRICS),
    seed=st.integers(0, 2**16),
    n=st.integers(5, 60),
    n_queries=st.integers(1, 60),
    dim=st.integers(2, 9),
    offset=st.sampled_from([0.0, 1.0, 10.0]),
    shift=st.sampled_from([0.0, 3.0]),
    unit=st.sampled_from([1e-6, 1.0, 1e6]),
)
def test_with_all_dimensions_scores_rank_rows_as_the_metric_does(metric, seed, n, n_queries, dim, offset, shift, unit):
    random = np.random.default_rng(seed)
    rows = random.standard_normal((n, dim)) * np.exp(random.standard_normal(dim)) + offset
    queries = random.standard_normal((n_queries, dim)) @ random.standard_normal((dim, dim)) + offset + shift
    rows, queries = compared(metric, rows * unit, queries * unit)
    width = dim + (metric == "euclidean")
    encoder = two_sides(rows, queries, metric, hidden_dims=(), latent_dim=width)
    scores = products(encoder, rows, queries)
    x, q = rows.astype(float), queries.astype(float)
    true = q @ x.T if metric == "ip" else -np.square(q[:, None] - x).sum(axis=2) / 2
    wx, wq = written(metric, rows, queries)
    noise = 3e-4 * np.linalg.norm(wq, axis=1)[:, None] * np.linalg.norm(wx, axis=1).max()
    difference = scores - true
    assert (np.abs(difference - difference[:, :1]) <= noise).all()
    # So that the order is the metric's wherever it is not within rounding.
    order = np.take_along_axis(true, np.argsort(-scores, axis=1), axis=1)
    assert (np.diff(order, axis=1) <= 2 * noise).all()


@pytest.mark.parametrize("metric", METRICS)
def test_an_offset_and_a_unit_change_no_latents_beyond_them(metric):
    rows, queries = rows_and_queries(300, 100, DIM)
    offset = np.float32(4096 if metric == "euclidean" else 0)
    moved_rows, moved_queries = compared(metric, rows * 1024 + offset, queries * 1024 + offset)
    rows, queries = compared(metric, rows, queries)
    plain = two_sides(rows, queries, metric, latent_dim=4)
    moved = two_sides(moved_rows, moved_queries, metric, latent_dim=4)
    unit = 1 if metric == "cosine" else 1024
    expected, found = products(plain, rows, queries), products(moved, moved_rows, moved_queries) / unit**2
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("array", "options", "error", "message"),
    [
        (np.zeros((2, DIM), bool), {}, TypeError, "must be a NumPy array or a tensor of real numbers, got bool"),
        ([[0.0] * DIM], {}, TypeError, "got list"),
        (np.zeros((2, DIM + 1)), {}, ValueError, rf"must have shape \(rows, {DIM}\), got \(2, {DIM + 1}\)"),
        (np.zeros(DIM), {}, ValueError, "must have shape"),
        (np.full((2, DIM), np.nan), {}, ValueError, "row 0, dimension 0 is nan as float32"),
        (np.full((2, DIM), 1e300), {}, ValueError, "row 0, dimension 0 is inf as float32"),
        (torch.full((2, DIM), torch.inf), {}, ValueError, "row 0, dimension 0 is inf as float32"),
        (np.zeros((2, DIM)), {"batch_size": 0}, ValueError, "batch_size must be at least 1"),
        (np.zeros((2, DIM)), {"dim": 3}, SettingError, "must be one of 2, 4, the sizes"),
        (np.zeros((2, DIM)), {"dim": 5, "any_dim": True}, ValueError, "dim"),
    ],
)
@pytest.mark.parametrize("metric", METRICS)
def test_queries_are_refused_as_rows_are(metric, array, options, error, message):
    encoder = AsymmetricEncoder(DIM, (4,), 4, metric, dims=(2,))
    for name, encode in (("array", encoder.encode), ("queries", encoder.encode_queries)):
        with pytest.raises(error, match=message) as refused:
            encode(array, **options)
        assert options or str(refused.value).startswith(name)
    with pytest.raises(error, match="^asked" if not options else message):
        encoder.encode_queries(array, input_name="asked", **options)


def test_kind_dtype_size_and_mode_are_kept():
    _, queries = rows_and_queries(60, 40, DIM)
    encoder = AsymmetricEncoder(DIM, (4,), 4, "ip", dropout=0.5, dims=(2,)).train()
    latents = encoder.encode_queries(queries)
    np.testing.assert_array_equal(encoder.encode_queries(queries), latents)
    assert encoder.training and latents.shape == (40, 4) and latents.dtype == np.float32
    np.testing.assert_array_equal(encoder.encode_queries(queries, dim=2), latents[:, :2])
    np.testing.assert_array_equal(encoder.encode_queries(queries, dim=3, any_dim=True), latents[:, :3])
    np.testing.assert_allclose(encoder.encode_queries(queries, batch_size=7), latents, atol=1e-6)
    assert encoder.encode_queries(queries.astype(np.float16)).dtype == np.float16
    assert encoder.encode_queries(torch.from_numpy(queries).double()).dtype == torch.float64
    assert encoder.encode_queries(queries[:0]).shape == (0, 4)
    assert encoder.latent_metric == "ip" and not np.allclose(encoder.encode(queries), latents)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("hidden_dims", [(), (6,)])
def test_a_state_dict_holds_both_sides(metric, hidden_dims):
    rows, queries = compared(metric, *rows_and_queries(60, 40, DIM))
    encoder = two_sides(rows, queries, metric, hidden_dims, 4)
    if hidden_dims:
        torch.nn.init.normal_(encoder.query_branch[-1].weight)
        torch.nn.init.normal_(encoder.branch[-1].weight)
    other = AsymmetricEncoder(DIM, hidden_dims, 4, metric)
    other.load_state_dict(encoder.state_dict())
    np.testing.assert_array_equal(other.encode(rows), encoder.encode(rows))
    np.testing.assert_array_equal(other.encode_queries(queries), encoder.encode_queries(queries))
    assert not np.allclose(other.encode_queries(rows), other.encode(rows))


def test_a_step_gets_what_encoding_gives():
    rows, queries = rows_and_queries(60, 40, DIM)
    encoder = two_sides(rows, queries, "euclidean", latent_dim=4).eval()
    z, z_q, z_x = BothSides(encoder)(torch.from_numpy(rows), torch.from_numpy(queries))
    np.testing.assert_allclose(z.detach(), encoder.encode(rows), atol=1e-6)
    np.testing.assert_allclose(z_q.detach(), encoder.encode_queries(queries), atol=1e-6)
    np.testing.assert_allclose(z_x.detach(), encoder.encode_queries(rows), atol=1e-6)
    assert len(BothSides(encoder)(torch.from_numpy(rows), torch.empty(0, DIM))[1]) == 0


def test_another_metric_is_refused():
    with pytest.raises(SettingError, match="metric must be euclidean or cosine or ip, got 'manhattan'"):
        AsymmetricEncoder(DIM, metric="manhattan")
