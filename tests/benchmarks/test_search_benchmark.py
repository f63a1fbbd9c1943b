"""benchmarks/search.py: CodeIndex beside FAISS, on a few rows."""

import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from dploss.data import open_vectors

pytest.importorskip("faiss")


def test_all_indexes_are_measured(tmp_path):
    np.save(tmp_path / "small.npy", open_vectors(limit=600).rows[:, :64])
    flags = "--data small.npy --rows 500 --queries 50 --latent-dim 64 --nlist 8 --repeat 1 --json found.json".split()
    subprocess.run([sys.executable, ROOT / "benchmarks" / "search.py", *flags], cwd=tmp_path, check=True)
    found = {one["index"]: one for one in json.loads((tmp_path / "found.json").read_text())["rows"]}
    assert list(found) == ["CodeIndex", "IndexPQ", "CodeIndex, lists", "IndexIVFPQ"]
    recalls = {name: one["recall@10"] for name, one in found.items()}
    assert recalls["CodeIndex"] > recalls["IndexPQ"] and min(recalls.values()) > 0.3
    assert found["CodeIndex"]["MB"] * 1e6 == 500 * (64 + 4)
