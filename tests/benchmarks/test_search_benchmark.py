"""benchmarks/search.py: CodeIndex beside FAISS, on a few rows."""

import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from dploss.data import open_vectors

pytest.importorskip("faiss")


@pytest.mark.parametrize("more", [[], ["--refined"]])
def test_all_indexes_are_measured(tmp_path, more):
    np.save(tmp_path / "small.npy", open_vectors(limit=600).rows[:, :64])
    flags = ["--data", "small.npy", "--rows", "500", "--queries", "50", "--latent-dim", "64", "--json", "found.json"]
    flags += ["--nlist", "8", "--nprobe", "2", "--repeat", "1", *more]
    subprocess.run([sys.executable, ROOT / "benchmarks" / "search.py", *flags], cwd=tmp_path, check=True)
    found = {one["index"]: one for one in json.loads((tmp_path / "found.json").read_text())["rows"]}
    first, second, third, fourth = found
    assert (first, second, fourth) == ("CodeIndex", "IndexPQ", "IndexIVFPQ, 2 of 8 lists") and "CodeIndex, " in third
    recalls = {name: one["recall@10"] for name, one in found.items()}
    assert recalls[first] > recalls[second] and recalls[third] >= recalls[fourth] > 0.3
    assert found["CodeIndex"]["MB"] * 1e6 == 500 * (64 + 4)
