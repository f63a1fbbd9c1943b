"""Searches of an encoder whose latents are compared by inner product."""

import numpy as np
import pytest
import torch
from small_models import rows_and_queries, trained_like, two_sides

from dploss import CodeIndex
from dploss.codes.build import fit_code
from dploss.errors import InputError
from dploss.evaluation.recall import neighbours_kept
from dploss.evaluation.space import Space
from dploss.search.rerank import rerank

ROWS, QUERIES = rows_and_queries()


def coded(name="trellis", metric="ip", n_bytes=8):
    encoder = two_sides(ROWS, QUERIES, metric)
    encoder.code = fit_code(name, encoder.encode(ROWS), n_bytes, metric="ip")
    return encoder


def filled(encoder, nlist=None):
    index = CodeIndex(encoder, nlist)
    index.add(ROWS)
    return index


def by_loop(rows, queries, k):
    """(n, k) largest inner products in float64, and their row indices; of equals the first."""
    products = [[sum(a * b for a, b in zip(q, x, strict=True)) for x in rows.tolist()] for q in queries.tolist()]
    ids = np.array([sorted(range(len(rows)), key=lambda i: (-row[i], i))[:k] for row in products])
    return np.take_along_axis(np.array(products), ids, axis=1), ids


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "ip"])
@pytest.mark.parametrize("name", ["trellis", "int8", "pq", "binary"])
def test_a_search_finds_the_largest_products_with_decoded_points(name, metric):
    index = filled(coded(name, metric))
    products, ids = index.search(QUERIES[:30], 10)
    expected, nearest = by_loop(
        index.code.decode(index.codes).astype(float), index.encoder.encode_queries(QUERIES[:30]).astype(float), 10
    )
    assert (products.dtype, ids.dtype) == (np.float32, np.int64)
    np.testing.assert_allclose(products, expected, rtol=1e-4, atol=1e-5)
    # Equal codes, and products that differ in float32's last digits, may come in another order.
    assert np.mean(ids == nearest) > (0.9 if name == "binary" else 0.99)


@pytest.mark.parametrize("n_queries", [1, 25])
def test_a_search_of_all_inverted_lists_is_exact(n_queries, tmp_path):
    pytest.importorskip("faiss")
    encoder = coded()
    lists, exact = filled(encoder, 12), filled(encoder)
    lists.save(tmp_path / "lists.index")
    exact.save(tmp_path / "rows.index")
    expected = exact.search(QUERIES[:n_queries], 5)
    for one in (lists, *(CodeIndex.load(tmp_path / f"{name}.index", encoder) for name in ("lists", "rows"))):
        for found, want in zip(one.search(QUERIES[:n_queries], 5, nprobe=12), expected, strict=True):
            np.testing.assert_array_equal(found, want)
    few = lists.search(QUERIES, 5, nprobe=4)[1]
    every = exact.search(QUERIES, 5)[1]
    assert np.mean([len(np.intersect1d(*pair)) / 5 for pair in zip(few, every, strict=True)]) > 0.7


def test_fewer_rows_than_asked_for():
    index = CodeIndex(coded())
    products, ids = index.search(QUERIES[:2], 3)
    assert (ids == -1).all() and (products == -np.inf).all()
    index.add(ROWS[:2])
    products, ids = index.search(QUERIES[:2], 3)
    assert np.isfinite(products[:, :2]).all() and (products[:, 2] == -np.inf).all() and (ids[:, 2] == -1).all()
    products, ids = index.search(QUERIES[:2], 3, rerank=2, originals=ROWS[:2])
    np.testing.assert_allclose(products[:, :2], np.sort(QUERIES[:2] @ ROWS[:2].T, axis=1)[:, ::-1], rtol=1e-5)
    assert (products[:, 2] == -np.inf).all() and (ids[:, 2] == -1).all()


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "ip"])
def test_reranking_of_everything_is_an_exact_search_of_the_originals(metric):
    scores, ids = filled(coded(metric=metric)).search(QUERIES[:20], 4, rerank=150, originals=ROWS)
    rows, queries = (one.astype(float) for one in (ROWS, QUERIES[:20]))
    if metric == "ip":
        expected, nearest = by_loop(rows, queries, 4)
    else:
        if metric == "cosine":
            rows, queries = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (rows, queries))
        squared = np.square(queries[:, None] - rows).sum(axis=2)
        expected, nearest = np.sort(squared, axis=1)[:, :4], np.argsort(squared, axis=1)[:, :4]
    np.testing.assert_array_equal(ids, nearest)
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)


def test_originals_are_in_the_order_of_faiss():
    faiss = pytest.importorskip("faiss")
    index = faiss.IndexFlatIP(ROWS.shape[1])
    index.add(ROWS)
    products, ids = index.search(QUERIES, 10)
    own, found = rerank(QUERIES, ROWS, np.tile(np.arange(len(ROWS)), (len(QUERIES), 1)), 10, "ip")
    np.testing.assert_array_equal(found, ids)
    np.testing.assert_allclose(own, products, rtol=1e-5)
    # Recall, too, is that of its ids.
    encoder = two_sides(ROWS, QUERIES)
    latents, queries = encoder.encode(ROWS), encoder.encode_queries(QUERIES)
    short = faiss.IndexFlatIP(16)
    short.add(latents)
    by_ids = [len(np.intersect1d(*pair)) for pair in zip(ids, short.search(queries, 10)[1], strict=True)]
    spaces = (("originals", ROWS, QUERIES), ("latents", latents, queries))
    kept = neighbours_kept(
        *(Space(name, torch.from_numpy(x), torch.from_numpy(q), "ip", are_rows=False) for name, x, q in spaces),
        [(10, 10)],
    )
    np.testing.assert_array_equal(kept[0], by_ids)


def test_a_code_for_other_latents_is_refused():
    encoder = coded()
    encoder.code = fit_code("trellis", encoder.encode(ROWS), 8)
    with pytest.raises(InputError, match="the encoder's code is fitted for euclidean, not ip"):
        CodeIndex(encoder)
    encoder = trained_like(ROWS)
    encoder.code = fit_code("trellis", encoder.encode(ROWS), 8, metric="ip")
    with pytest.raises(InputError, match="the encoder's code is fitted for ip, not euclidean"):
        CodeIndex(encoder)


def test_an_index_of_distances_is_not_read_as_one_of_products(tmp_path):
    encoder, other = coded("binary"), trained_like(ROWS)
    other.code = fit_code("binary", encoder.encode(ROWS), 8)
    filled(other).save(tmp_path / "rows.index")
    with pytest.raises(InputError, match="not of this encoder"):
        CodeIndex.load(tmp_path / "rows.index", encoder)
