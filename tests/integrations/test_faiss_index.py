import numpy as np
import pytest
import torch
from small_models import rows_and_queries, trained_like, two_sides

from dploss.integrations.faiss_index import RerankingIndex, linear_transform

faiss = pytest.importorskip("faiss")


def brute_force(rows, queries, k):
    squared = np.square(queries[:, None].astype(np.float64) - rows[None]).sum(-1)
    found_index = np.argsort(squared, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(squared, found_index, 1), found_index


def test_a_linear_encoder_works_inside_an_index(builtin):
    encoder = trained_like(builtin, ())
    index = faiss.IndexPreTransform(linear_transform(encoder), faiss.IndexFlatL2(16))
    index.add(builtin)
    distances, found_index = index.search(builtin[:20], 5)
    short = encoder.encode(builtin)
    expected, nearest = brute_force(short, short[:20], 5)
    np.testing.assert_array_equal(found_index, nearest)
    np.testing.assert_allclose(distances, expected, atol=1e-3)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_reranking_of_everything_is_an_exact_search(metric, builtin, tmp_path):
    rows = builtin[:200] * np.random.default_rng(0).uniform(0.5, 2, (200, 1)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    queries = rows[:10] + 0.01
    found = RerankingIndex(trained_like(rows, metric=metric), np.load(tmp_path / "rows.npy", mmap_mode="r"))
    distances, found_index = found.search(queries, 4, fetch=50)
    if metric == "cosine":
        rows, queries = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (rows, queries))
    expected, nearest = brute_force(rows, queries, 4)
    np.testing.assert_array_equal(found_index, nearest)
    np.testing.assert_allclose(distances, expected, atol=1e-5)


def test_reranking_finds_more_than_the_short_vectors_alone(builtin):
    index = RerankingIndex(trained_like(builtin), builtin)
    _, truth = brute_force(builtin, builtin[:50], 5)

    def recall(fetch):
        _, found_index = index.search(builtin[:50], 5, fetch)
        return np.mean([len(set(a) & set(b)) / 5 for a, b in zip(found_index, truth, strict=True)])

    assert recall(1) < recall(10) <= recall(120) == 1


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("power", [-83, 40])
def test_units_change_nothing_of_a_search(metric, power, builtin):
    def found(unit):
        rows = builtin * np.float32(unit)
        torch.manual_seed(0)
        encoder = trained_like(builtin if metric == "cosine" else rows, metric=metric)
        return RerankingIndex(encoder, rows).search(rows[:50], 5, fetch=4)

    (distances, nearest), (scaled, scaled_nearest) = found(1), found(2.0**power)
    if metric == "cosine":
        np.testing.assert_allclose(scaled, distances, atol=1e-6)
    assert np.mean(scaled_nearest == nearest) > 0.99


def test_an_index_that_finds_fewer_says_so(builtin):
    quantizer = faiss.IndexFlatL2(16)
    index = faiss.IndexIVFFlat(quantizer, 16, 12)
    distances, found_index = RerankingIndex(trained_like(builtin), builtin, index).search(builtin[:5], 300, fetch=1)
    assert (found_index == -1).any() and np.isinf(distances[found_index == -1]).all()
    with pytest.raises(ValueError, match="k must be within 1 and 600"):
        RerankingIndex(trained_like(builtin), builtin).search(builtin[:2], 601)


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "ip"])
def test_queries_with_a_side_of_their_own_find_candidates_by_inner_product(metric):
    rows, queries = rows_and_queries()
    encoder = two_sides(rows, queries, metric)
    found = RerankingIndex(encoder, rows)
    assert isinstance(found.index, faiss.IndexFlatIP)
    products = encoder.encode_queries(queries) @ encoder.encode(rows).T
    latents = encoder.encode_queries(queries) / found._unit
    np.testing.assert_array_equal(found.index.search(latents, 5)[1], np.argsort(-products, axis=1)[:, :5])
    scores, ids = found.search(queries[:20], 4, fetch=150)
    if metric == "ip":
        exact = queries[:20].astype(float) @ rows.T
        np.testing.assert_array_equal(ids, np.argsort(-exact, axis=1)[:, :4])
        np.testing.assert_allclose(scores, -np.sort(-exact, axis=1)[:, :4], rtol=1e-5)
    else:
        if metric == "cosine":
            rows, queries = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (rows, queries))
        expected, nearest = brute_force(rows, queries[:20], 4)
        np.testing.assert_array_equal(ids, nearest)
        np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_an_index_of_products_that_finds_fewer_says_so():
    rows, queries = rows_and_queries()
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(16), 16, 12, faiss.METRIC_INNER_PRODUCT)
    products, ids = RerankingIndex(two_sides(rows, queries), rows, index).search(queries[:5], 300, fetch=1)
    assert (ids == -1).any() and (products[ids == -1] == -np.inf).all()


def test_both_sides_of_a_linear_encoder_work_inside_faiss():
    rows, queries = rows_and_queries()
    encoder = two_sides(rows, queries, hidden_dims=())
    of_rows, of_queries = linear_transform(encoder), linear_transform(encoder, queries=True)
    index = faiss.IndexFlatIP(16)
    index.add(of_rows.apply(rows))
    products, ids = index.search(of_queries.apply(queries), 5)
    exact = encoder.encode_queries(queries).astype(float) @ encoder.encode(rows).T
    np.testing.assert_array_equal(ids, np.argsort(-exact, axis=1)[:, :5])
    np.testing.assert_allclose(products, -np.sort(-exact, axis=1)[:, :5], rtol=1e-4, atol=1e-4)
