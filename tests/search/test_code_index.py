import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_models import trained_like

from dploss import CodeIndex
from dploss.codes.build import fit_code
from dploss.codes.code import Code
from dploss.errors import InputError
from dploss.losses import DPLossV3
from dploss.search.inverted_lists import InvertedLists


@pytest.fixture(scope="module")
def encoder(builtin):
    return coded(builtin)


@pytest.fixture(scope="module")
def rows(builtin):
    """More than tables are worth their while for, and an odd number."""
    noise = np.random.default_rng(0).normal(size=(1501, 768)).astype(np.float32)
    return builtin[np.arange(1501) % 600] + 0.01 * noise


@pytest.fixture(scope="module")
def index(encoder, rows):
    index = CodeIndex(encoder)
    index.add(rows)
    return index


def coded(rows, metric="euclidean", n_bytes=8):
    encoder = trained_like(rows, metric=metric)
    encoder.code = fit_code("trellis", encoder.encode(rows), n_bytes)
    return encoder


def by_loop(encoder, codes, queries, k):
    """Distances and ids of a plain float64 search."""
    latents = encoder.encode(queries)
    points, biases = (one.astype(np.float64) for one in encoder.code.points(codes))
    unit, norms = encoder.code.unit, encoder.code.constants(latents)
    distances = np.empty((len(queries), k))
    ids = np.empty((len(queries), k), np.int64)
    for row, query in enumerate(encoder.code.project(latents).astype(np.float64)):
        squared = (biases - 2 * points @ query + norms[row]) * unit**2
        ids[row] = np.argsort(squared, kind="stable")[:k]
        distances[row] = squared[ids[row]]
    return distances, ids


@pytest.mark.parametrize("n_queries", [1, 3, 40])
def test_a_search_finds_what_a_plain_loop_finds(n_queries, encoder, rows, index):
    queries = rows[:n_queries] + 0.01
    distances, ids = index.search(queries, 10)
    expected, nearest = by_loop(encoder, index.codes, queries, 10)
    assert (distances.dtype, ids.dtype) == (np.float32, np.int64)
    np.testing.assert_array_equal(ids, nearest)
    np.testing.assert_allclose(distances, expected, rtol=1e-5)


@pytest.mark.parametrize("nlist", [None, 4])
@pytest.mark.parametrize("n_queries", [1, 40])
def test_refined_codes_are_found_among_coarse_candidates(n_queries, nlist, encoder, rows, builtin, monkeypatch):
    # Of few rows it would be the start.
    monkeypatch.setattr("dploss.codes.refined_code.shares_kept", lambda *_: (1.0, 0.0))
    refined = trained_like(builtin)
    refined.code = fit_code("trellis", refined.encode(builtin), 8, DPLossV3())
    assert refined.code.name == "refined trellis"
    if nlist is not None:
        pytest.importorskip("faiss")
    index, queries = CodeIndex(refined, nlist), rows[:n_queries] + 0.01
    index.add(rows)
    # So many candidates that all rows are among them.
    k = len(rows) // 5 + 1
    distances, ids = index.search(queries, k, nprobe=4)
    expected, nearest = by_loop(refined, refined.encode_to_codes(rows), queries, k)
    np.testing.assert_allclose(distances, expected, rtol=1e-5)
    assert np.mean(ids == nearest) > 0.999
    few = index.search(queries, 10, nprobe=4)[1]
    assert np.mean([len(set(one) & set(other)) / 10 for one, other in zip(few, nearest[:, :10], strict=True)]) > 0.98


def test_queries_find_the_same_one_by_one(rows, index):
    together = index.search(rows[:30], 10)[1]
    np.testing.assert_array_equal([index.search(row[None], 10)[1][0] for row in rows[:30]], together)


def test_tables_give_the_products_of_decoded_rows(encoder, index, rows):
    codes, projected = np.tile(index.codes, (3, 1)), encoder.code.project(encoder.encode(rows[:3]))
    expected = Code.products(encoder.code, projected, codes)
    np.testing.assert_allclose(encoder.code.products(projected, codes), expected, atol=1e-5 * abs(expected).max())


def test_distances_are_about_those_of_the_latents(encoder, rows, index):
    distances, ids = index.search(rows[:50], 5)
    latents = encoder.encode(rows)
    exact = np.square(latents[:50, None] - latents[ids]).sum(-1)
    typical = np.square(latents - latents.mean(0)).sum(1).mean()
    assert np.abs(distances - exact).mean() < 0.2 * typical


@pytest.mark.parametrize("n_queries", [2, 20])
def test_of_rows_as_far_the_first_is_found(n_queries, encoder, index, rows):
    twins = CodeIndex(encoder)
    twins.add_codes(np.repeat(index.codes[:2], 1777, axis=0))
    _, ids = twins.search(np.repeat(rows[:2], n_queries // 2, axis=0), 5)
    first, second = np.arange(5), 1777 + np.arange(5)
    np.testing.assert_array_equal(ids, np.repeat([first, second], n_queries // 2, axis=0))


def test_more_than_there_are(encoder, rows):
    index = CodeIndex(encoder)
    distances, ids = index.search(rows[:2], 3)
    assert len(index) == 0 and (ids == -1).all() and np.isinf(distances).all()
    index.add(rows[:2])
    distances, ids = index.search(rows[:2], 3)
    assert np.sort(ids, axis=1).tolist() == [[-1, 0, 1]] * 2 and np.isinf(distances[:, 2]).all()
    assert index.search(rows[:0], 3)[1].shape == (0, 3)


def test_rows_and_codes_can_be_added_in_parts(encoder, rows, index):
    other = CodeIndex(encoder)
    other.add(rows[:700])
    other.add_codes(encoder.encode_to_codes(rows[700:]))
    np.testing.assert_array_equal(other.codes, index.codes)
    for one, two in zip(other.search(rows[:20], 4), index.search(rows[:20], 4), strict=True):
        np.testing.assert_array_equal(one, two)
    assert index.nbytes == len(rows) * (index.bytes_per_vector + 4)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_reranking_of_everything_is_an_exact_search(metric, builtin, tmp_path):
    rows = builtin[:200] * np.random.default_rng(0).uniform(0.5, 2, (200, 1)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    index = CodeIndex(coded(builtin, metric))
    index.add(rows)
    queries = rows[:10] + 0.01
    distances, ids = index.search(queries, 4, rerank=50, originals=np.load(tmp_path / "rows.npy", mmap_mode="r"))
    if metric == "cosine":
        rows, queries = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (rows, queries))
    squared = np.square(queries[:, None].astype(np.float64) - rows[None]).sum(-1)
    np.testing.assert_array_equal(ids, np.argsort(squared, axis=1)[:, :4])
    np.testing.assert_allclose(distances, np.sort(squared, axis=1)[:, :4], atol=1e-5)


def test_a_saved_index_is_the_same(encoder, rows, index, tmp_path):
    index.save(tmp_path / "rows.index")
    loaded = CodeIndex.load(tmp_path / "rows.index", encoder)
    for one, two in zip(loaded.search(rows[:20], 4), index.search(rows[:20], 4), strict=True):
        np.testing.assert_array_equal(one, two)
    loaded.add(rows[:5])
    loaded.save(tmp_path / "rows.index")
    assert len(CodeIndex.load(tmp_path / "rows.index", encoder)) == len(rows) + 5
    CodeIndex(encoder).save(tmp_path / "empty.index")
    assert len(CodeIndex.load(tmp_path / "empty.index", encoder)) == 0


def test_damaged_files_are_refused_in_one_line(builtin, encoder, index, tmp_path):
    path = tmp_path / "rows.index"
    index.save(path)
    whole = path.read_bytes()
    for cut in (0, 50, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(InputError, match="not a readable index"):
            CodeIndex.load(path, encoder)
    path.write_bytes(whole)
    with pytest.raises(InputError, match="not of this encoder"):
        CodeIndex.load(path, coded(builtin, n_bytes=9))
    stored = {name: array for name, array in np.load(path).items()}
    wrong = [
        {"codes": stored["codes"][:, :-1]},
        {"codes": stored["codes"][:-1]},
        {"biases": stored["biases"] * np.nan},
        {"centroids": np.zeros((2, 3), np.float32)},
    ]
    for change in wrong:
        with open(path, "wb") as file:
            np.savez(file, **{**stored, **change})
        with pytest.raises(InputError, match="no index of codes"):
            CodeIndex.load(path, encoder)
    with pytest.raises(InputError, match="no such file"):
        CodeIndex.load(tmp_path / "missing", encoder)


def test_damaged_lists_are_refused_in_one_line(encoder, rows, tmp_path):
    pytest.importorskip("faiss")
    path = tmp_path / "rows.index"
    index = CodeIndex(encoder, nlist=4)
    index.add(rows[:90])
    index.save(path)
    stored = dict(np.load(path).items())
    wrong = [
        {"centroids": np.zeros((4, 3), np.float32)},
        {"centroids": stored["centroids"][:2]},
        {"lists": stored["lists"][::-1].copy()},
        {"lists": stored["lists"] - 1},
        {"lists": stored["lists"][1:]},
        {"ids": np.zeros(90, np.int32)},
        {"ids": stored["ids"] + 1},
    ]
    for change in wrong:
        with open(path, "wb") as file:
            np.savez(file, **{**stored, **change})
        with pytest.raises(InputError, match="no index of codes"):
            CodeIndex.load(path, encoder)
    del stored["ids"]
    with open(path, "wb") as file:
        np.savez(file, **stored)
    with pytest.raises(InputError, match="an older version saved it with lists"):
        CodeIndex.load(path, encoder)


@given(data=st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_index_is_loaded_or_named(data, encoder, rows, index, tmp_path):
    path = tmp_path / "rows.index"
    index.save(path)
    whole = bytearray(path.read_bytes())
    # Of its middle nothing is read but codes.
    places = st.integers(0, 1200) | st.integers(len(whole) - 8000, len(whole) - 1)
    for place in data.draw(st.lists(places, min_size=1, max_size=4)):
        whole[place] = data.draw(st.integers(0, 255))
    path.write_bytes(whole)
    try:
        loaded = CodeIndex.load(path, encoder)
    except InputError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)
        return
    assert loaded.search(rows[:3], 4)[1].max() < len(rows)


def test_what_cannot_be_is_refused(builtin, encoder, rows, index):
    with pytest.raises(InputError, match="the encoder has no code"):
        CodeIndex(trained_like(builtin))
    with pytest.raises(InputError, match="nlist must be at least 1"):
        CodeIndex(encoder, nlist=0)
    with pytest.raises(ValueError, match="codes must be uint8"):
        index.add_codes(np.zeros((3, 5), np.uint8))
    with pytest.raises(ValueError, match="must be at least 1"):
        index.search(rows[:1], 0)
    with pytest.raises(ValueError, match="rerank needs the originals of all 1501 rows, got none"):
        index.search(rows[:1], 1, rerank=5)
    with pytest.raises(ValueError, match="queries: row 0, dimension 0 is nan as float32"):
        index.search(rows[:1] * np.nan, 1)
    broken = rows[np.arange(9000) % len(rows)]
    broken[8200, 4] = np.inf
    with pytest.raises(ValueError, match=r"rows\[8192:\]: row 8, dimension 4 is inf as float32"):
        index.add(broken)


@pytest.mark.parametrize("n_queries", [1, 2, 30])
def test_a_search_of_all_inverted_lists_is_exact(n_queries, encoder, rows, index, tmp_path):
    pytest.importorskip("faiss")
    lists = CodeIndex(encoder, nlist=10)
    lists.add(rows[:1000])
    lists.add(rows[1000:])
    lists.save(tmp_path / "rows.index")
    expected = index.search(rows[:n_queries], 5)
    for one in (lists, CodeIndex.load(tmp_path / "rows.index", encoder)):
        for found, want in zip(one.search(rows[:n_queries], 5, nprobe=99), expected, strict=True):
            np.testing.assert_array_equal(found, want)
    some = lists.search(rows[:n_queries], 5, nprobe=3)[1]
    assert np.mean([len(set(a) & set(b)) / 5 for a, b in zip(some, expected[1], strict=True)]) > 0.5
    assert lists.nbytes < len(rows) * (lists.bytes_per_vector + 13)


@pytest.mark.parametrize("name", ["trellis", "scalar", "int8", "binary", "pq"])
def test_lists_may_be_empty_and_hold_any_code(name, builtin, rows):
    pytest.importorskip("faiss")
    encoder = trained_like(builtin)
    encoder.code = fit_code(name, encoder.encode(builtin), 8)
    exact, lists = CodeIndex(encoder), CodeIndex(encoder, nlist=40)
    exact.add(rows[:300])
    lists.add(rows[:300])
    # Two of three lists hold nothing, and their centroids are as near as any.
    inverted = lists._lists
    lists._lists = InvertedLists(inverted.centroids, inverted.lists // 3 * 3, inverted.ids)
    for n_queries in (1, 25):
        expected = exact.search(rows[:n_queries], 6)
        for found, want in zip(lists.search(rows[:n_queries], 6, nprobe=40), expected, strict=True):
            np.testing.assert_array_equal(found, want)


def test_lists_need_rows_and_faiss(encoder, rows, monkeypatch):
    with pytest.raises(InputError, match="nlist is 10, more than the 9 rows"):
        CodeIndex(encoder, nlist=10).add(rows[:9])
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(InputError, match="nlist needs faiss, which is not installed"):
        CodeIndex(encoder, nlist=2).add(rows[:9])
