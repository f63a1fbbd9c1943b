"""benchmarks/trained_codes.py: the closed form of a code beside the trained one."""

import json
import sys
from importlib import import_module

import numpy as np
import pytest
from conftest import ROOT

from dploss.data import open_vectors

pytest.importorskip("faiss")
sys.path.append(str(ROOT / "benchmarks"))
benchmark = import_module("trained_codes")


@pytest.mark.parametrize("code", ["trellis", "binary", "int8"])
def test_a_table_is_printed(tmp_path, monkeypatch, capsys, code):
    np.save(tmp_path / "small.npy", open_vectors(limit=600).rows[:, :64])
    flags = ["--data", str(tmp_path / "small.npy"), "--bytes", "8", "--code", code, "--json"]
    monkeypatch.setattr(sys, "argv", ["trained_codes.py", *flags, str(tmp_path / "table.json")])
    benchmark.main()
    (row,) = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert (row["data"], row["rows"], row["bytes"]) == ("small", 540, 8) and code in row["code"]
    assert 0.2 < row["recall"] <= 1 and ("Hamming, gain" in row) == (code == "binary")
    assert "small" in capsys.readouterr().out
