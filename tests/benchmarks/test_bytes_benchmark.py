"""benchmarks/bytes.py: every fast method at equal bytes, on a few rows."""

import json
import sys
from importlib import import_module
from itertools import product

import numpy as np
import pytest
from conftest import ROOT

from dploss.data import open_vectors

pytest.importorskip("faiss")
sys.path.append(str(ROOT / "benchmarks"))
benchmark, ash, methods = map(import_module, ("bytes", "bytes_ash", "bytes_methods"))

FAST = [name for name in methods.METHODS if name not in (*methods.SLOW, *methods.OTHERS)]


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    """A file of 600 rows of 64 dimensions."""
    path = tmp_path_factory.mktemp("bytes") / "small.npy"
    np.save(path, open_vectors(limit=600).rows[:, :64])
    return path


def test_all_fast_methods_are_measured_and_drawn(vectors, tmp_path, capsys):
    out = tmp_path / "bytes.json"
    flags = ["--data", str(vectors), "--bytes", "16", "32", "--out", str(out), "--methods", *FAST, "limit"]
    assert benchmark.main(flags) == 0
    entries = json.loads(out.read_text())["entries"]
    found = {(one["method"], one["bytes"]): one["recall"] for one in entries}
    assert {name for name, _ in found} == {*FAST, "limit"}
    assert all(0.2 < recall <= 1 for recall in found.values())
    assert (tmp_path / "bytes.png").stat().st_size > 10_000
    # 20 of RaBitQ's bytes are floats: none fit into 16.
    printed = capsys.readouterr()
    assert ("RaBitQ, PCA, 2 bits", 16) not in found
    assert "small, RaBitQ, PCA, 2 bits, 16 bytes: left out, too few bytes" in printed.err
    assert "small: recall@10" in printed.out


def test_more_bits_are_nearer(vectors):
    rows = np.load(vectors)
    true = benchmark.true_neighbours(rows[500:], None)
    for name, n_bytes in product(("ASH, 2 bits", "EDEN, PCA, 2 bits"), (12, 24)):
        method = methods.METHODS[name](rows[:500], n_bytes)
        found = method.search(method.encode(rows[500:]), rows[500:], 11)
        found = [[other for other in near if other != row][:10] for row, near in enumerate(found)]
        assert benchmark.share_found(true, np.array(found)) > 0.4 + n_bytes / 100


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_levels_of_ash_have_the_largest_cosine(bits):
    rows = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
    levels = np.arange(2**bits) - (2**bits - 1) / 2
    every = np.array(list(product(levels, repeat=4)))
    best = (rows @ every.T / np.linalg.norm(every, axis=1)).max(axis=1)
    chosen = ash.levels_of(rows, bits)
    assert set(np.unique(chosen)) <= set(levels)
    assert np.allclose(np.einsum("ij,ij->i", rows, chosen) / np.linalg.norm(chosen, axis=1), best)


def test_a_library_that_is_not_installed_is_left_out(vectors, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "turbovec", None)
    flags = ["--data", str(vectors), "--bytes", "32", "--out", str(tmp_path / "bytes.json")]
    assert benchmark.main([*flags, "--methods", "turbovec, PCA, 4 bits", "int8"]) == 0
    assert [one["method"] for one in json.loads((tmp_path / "bytes.json").read_text())["entries"]] == ["int8"]
    assert "small, turbovec, PCA, 4 bits, 32 bytes: left out" in capsys.readouterr().err
