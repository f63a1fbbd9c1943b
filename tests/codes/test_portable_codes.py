"""What other engines read: numbers, bits, and the index of FAISS."""

import subprocess
import sys

import numpy as np
import pytest
from codes.fitted import N_BYTES, fitted, latents

from dploss.codes.binary import BinaryCode
from dploss.codes.build import fit_code
from dploss.codes.elementwise import Int8Code
from dploss.codes.pq import ProductCode
from dploss.errors import InputError

STOCK = """
import sys
import faiss, numpy as np
index = faiss.read_index("codes.faiss")
rows, more = np.load("rows.npy"), np.load("more.npy")
found = index.search(rows, 10)
index.add(more)
np.savez("found.npz", distances=found[0], numbers=found[1], more=index.search(more, 10)[1])
assert not [name for name in sys.modules if name.startswith(("dploss", "torch"))]
"""


def recall(exact: np.ndarray, scores: np.ndarray, k: int = 10) -> float:
    nearest = []
    for some in (exact, scores):
        some = some.astype(float)
        np.fill_diagonal(some, np.inf)
        nearest.append(np.argsort(some, axis=1)[:, :k])
    return float(np.mean([len(set(one) & set(other)) / k for one, other in zip(*nearest, strict=True)]))


def squared_distances(rows: np.ndarray) -> np.ndarray:
    norms = np.square(rows.astype(float)).sum(axis=1)
    return norms[:, None] + norms - 2 * rows.astype(float) @ rows.T


def numbers_in(name: str, codes: np.ndarray) -> np.ndarray:
    """As a database reads them: two's complement, the first of two int4 in the low half."""
    if name == "float16":
        return np.array([np.frombuffer(row.tobytes(), "<f2") for row in codes], float)
    if name == "int8":
        return np.array([[b - 256 if b > 127 else b for b in map(int, row)] for row in codes], float)
    halves = [[half for byte in map(int, row) for half in (byte % 16, byte // 16)] for row in codes]
    return np.array([[h - 16 if h > 7 else h for h in row] for row in halves], float)


@pytest.mark.parametrize("name", ["float16", "int8", "int4"])
def test_distances_of_the_stored_numbers_are_the_scores(name):
    code, rows, queries = fitted(name), latents(50, seed=1), latents(6, seed=2)
    codes = code.encode(rows)
    numbers, sought = numbers_in(name, codes), code.project(queries).astype(float) / code.step
    distances = np.square(sought[:, None] - numbers[None]).sum(axis=2) * code.step**2
    constant = np.square(sought * code.step).sum(axis=1, keepdims=True) - code.least
    assert np.allclose(code.score(queries, codes), distances - constant, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["float16", "int8"])
def test_a_stored_row_is_as_long_as_the_whole_one(name):
    code, rows = fitted(name), latents(50, seed=1)
    squares = np.square((rows - code.rotation.mean) / code.rotation.scale).sum(axis=1)
    points, biases = code.points(code.encode(rows))
    clipped = (np.abs(code.elements(code.encode(rows))) >= 127).any(axis=1) & (name == "int8")
    longer = squares > np.square(code.project(rows)).sum(axis=1) + 1.01 * code.least
    assert np.allclose(biases[longer & ~clipped], squares[longer & ~clipped], rtol=0.02) and longer.mean() > 0.9
    assert np.allclose(biases, np.square(points).sum(axis=1) + code.least, rtol=1e-5)


def test_codes_of_older_versions_have_rows_of_whole_length():
    arrays = fitted("int8").arrays()
    old = Int8Code.from_arrays(N_BYTES, {name: arrays[name] for name in ("mean", "axes", "scale", "step")})
    rows = latents(50, seed=1)
    lengths = np.linalg.norm(rows - old.rotation.mean, axis=1) / old.rotation.scale
    stored = np.linalg.norm(old.elements(old.encode(rows)), axis=1) * old.step
    assert np.median(np.abs(stored / lengths - 1)) < 0.02 and not old.length_axis.any()


def test_where_all_axes_are_kept_rows_are_stored_as_they_are():
    rows = latents(100)
    code = fit_code("float16", rows, 2 * rows.shape[1])
    assert not code.length_axis.any()
    assert np.allclose(code.decode(code.encode(rows)), rows, atol=2e-3)


def test_float16_never_overflows():
    code = fitted("float16")
    rows = latents(3) * np.float32(1e7)
    assert np.isfinite(code.score(rows, code.encode(rows))).all()
    assert np.isfinite(code.decode(np.full((1, N_BYTES), 0xFF, np.uint8))).all()


def test_int8_beats_min_max_of_renormalised_pca(builtin):
    train, held_out = builtin[:400], builtin[400:]
    code = Int8Code.fit(train, 32)
    axes = np.linalg.svd(train - train.mean(axis=0), full_matrices=False)[2][:32].T
    cut = [(rows - train.mean(axis=0)) @ axes for rows in (train, held_out)]
    units = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in cut]
    low, high = units[0].min(axis=0), units[0].max(axis=0)
    stored = np.rint((units[1].clip(low, high) - low) / (high - low) * 255) / 255 * (high - low) + low
    plain = np.square(stored).sum(axis=1) - 2 * units[1] @ stored.T
    exact = squared_distances(held_out)
    assert recall(exact, code.score(held_out, code.encode(held_out))) > recall(exact, plain) + 0.01


def test_binary_beats_the_signs_of_pca(builtin):
    train, held_out = builtin[:400], builtin[400:]
    code, exact = BinaryCode.fit(train, 16), squared_distances(held_out)
    axes = np.linalg.svd(train - train.mean(axis=0), full_matrices=False)[2][:128].T
    signs = np.where((held_out - train.mean(axis=0)) @ axes > 0, 1, -1)
    codes = code.encode(held_out)
    assert recall(exact, code.hamming(codes, codes)) > recall(exact, -signs @ signs.T) + 0.05
    assert (
        recall(exact, code.score(held_out, codes))
        > recall(exact, -(held_out - train.mean(axis=0)) @ axes @ signs.T) + 0.02
    )


@pytest.mark.parametrize("n_bytes", [1, 2, 5])
def test_hamming_counts_the_bits_that_differ(n_bytes):
    code = fit_code("binary", latents(100), n_bytes)
    one, other = (np.random.RandomState(seed).randint(0, 256, (9, n_bytes)).astype(np.uint8) for seed in (0, 1))
    plain = [[sum((int(a) ^ int(b)).bit_count() for a, b in zip(x, y, strict=True)) for y in other] for x in one]
    assert np.array_equal(code.hamming(one, other), plain)
    assert np.array_equal(code.encode(latents(9)), np.packbits(code.project(latents(9)) > 0, axis=1))


def test_axes_of_many_bits_are_a_tight_frame():
    axes = fit_code("binary", latents(100), 8).rotation.axes
    assert axes.shape == (24, 64)
    assert np.allclose(axes @ axes.T, np.eye(24), atol=1e-5)


@pytest.mark.parametrize("n_bytes", [2, 4, 9])
def test_each_sub_space_has_its_nearest_centroid(n_bytes):
    code, rows = fit_code("pq", latents(400), n_bytes), latents(30, seed=3)
    ends = np.cumsum(code.sizes)
    for group, (size, end) in enumerate(zip(code.sizes, ends, strict=True)):
        part, centroids = code.project(rows)[:, end - size : end], code.centroids[end - size : end].T
        errors = np.square(part[:, None].astype(float) - centroids).sum(axis=2)
        chosen = errors[np.arange(30), code.encode(rows)[:, group]]
        assert np.allclose(chosen, errors.min(axis=1), rtol=1e-4, atol=1e-6)


def test_the_last_byte_has_the_squared_length():
    code, rows = fitted("pq"), latents(200, seed=3)
    whole = ProductCode(code.rotation, code.sizes, code.centroids, code.excesses)
    lengths = np.square((rows - code.rotation.mean) / code.rotation.scale).sum(axis=1)
    codes = whole.encode(rows)
    points, biases = whole.points(codes)
    assert np.median(np.abs(biases - lengths) / lengths) < 0.01
    np.testing.assert_array_equal(code.encode(rows), codes)
    norms = np.square(points).sum(axis=1)
    counted = norms + code.norm_share * (biases - norms)
    np.testing.assert_allclose(code.points(codes)[1], counted, rtol=1e-5)


def test_the_share_of_the_norm_is_the_one_that_keeps_most_neighbours():
    rows = latents(2000, seed=6) * np.random.default_rng(0).uniform(0.5, 2, (2000, 1)).astype(np.float32)
    code = fit_code("pq", rows, 4)
    exact = squared_distances(rows[::2])
    kept = {}
    for share in (0.0, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0):
        other = ProductCode(code.rotation, code.sizes, code.centroids, code.excesses, share)
        kept[share] = recall(exact, other.score(rows[::2], other.encode(rows[::2])))
    assert kept[code.norm_share] > max(kept.values()) - 0.02 > min(kept.values()) + 0.02


def test_axes_without_bits_join_the_groups_where_that_keeps_more():
    random = np.random.default_rng(0)
    gaussian = (random.standard_normal((2000, 32)) * 0.8 ** np.arange(32)).astype(np.float32)
    assert len(fit_code("pq", gaussian, 4).centroids) < 16
    centres = random.standard_normal((200, 32))
    clustered = centres[random.integers(200, size=2000)] + 0.2 * random.standard_normal((2000, 32))
    assert len(fit_code("pq", clustered.astype(np.float32), 3).centroids) == 32


def test_codes_without_a_share_of_the_norm_count_all_of_it():
    code = fitted("pq")
    arrays = code.arrays()
    del arrays["norm_share"]
    assert ProductCode.from_arrays(code.bytes_per_vector, arrays).norm_share == 1
    for share in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match="norm_share"):
            ProductCode.from_arrays(code.bytes_per_vector, {**arrays, "norm_share": np.array(share)})


def test_stock_faiss_reads_searches_and_adds(tmp_path):
    faiss = pytest.importorskip("faiss")
    code, rows, more = fitted("pq"), latents(300, seed=4), latents(50, seed=5)
    codes = code.encode(rows)
    index = code.to_faiss(codes)
    assert index.ntotal == 300 and code.to_faiss().ntotal == 0
    faiss.write_index(index, str(tmp_path / "codes.faiss"))
    np.save(tmp_path / "rows.npy", rows)
    np.save(tmp_path / "more.npy", more)
    subprocess.run([sys.executable, "-c", STOCK], cwd=tmp_path, check=True, timeout=120)
    found = np.load(tmp_path / "found.npz")
    scores = code.score(rows, codes)
    assert np.allclose(np.take_along_axis(scores, found["numbers"], axis=1), np.sort(scores, axis=1)[:, :10], atol=0.01)
    # What FAISS adds has the same bytes but for the length, and can be found.
    assert (found["more"] >= 300).any(axis=1).mean() > 0.5
    empty = code.to_faiss()
    empty.add(more)
    added = faiss.vector_to_array(faiss.downcast_index(empty.index).codes).reshape(50, N_BYTES)
    assert np.mean(added[:, :-1] == code.encode(more)[:, :-1]) > 0.99 and not added[:, -1].any()


def test_without_faiss_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    code = ProductCode.fit(latents(50), 3)
    assert code.encode(latents(3)).shape == (3, 3)
    with pytest.raises(InputError, match="pip install"):
        code.to_faiss()
