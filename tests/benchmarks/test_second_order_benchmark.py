"""benchmarks/second_order.py: what products of decoded coordinates predict."""

import json
import sys
from importlib import import_module

import numpy as np
import pytest
from conftest import ROOT

from dploss.data import open_vectors

pytest.importorskip("faiss")
sys.path.append(str(ROOT / "benchmarks"))
benchmark = import_module("second_order")


def test_a_table_is_printed(tmp_path, monkeypatch, capsys):
    np.save(tmp_path / "small.npy", open_vectors(limit=600).rows[:, :64])
    flags = ["--data", str(tmp_path / "small.npy"), "--bytes", "8", "--axes", "6", "99", "--json"]
    monkeypatch.setattr(sys, "argv", ["second_order.py", *flags, str(tmp_path / "table.json")])
    benchmark.main()
    linear, second = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert (linear["data"], linear["axes"], linear["squared error"]) == ("small", 0, 1)
    assert second["axes"] == 6 and 0.5 < second["squared error"] < 1.1 and 0.2 < second["recall"] <= 1
    assert "| small | 0 | 8 | 6 |" in capsys.readouterr().out
