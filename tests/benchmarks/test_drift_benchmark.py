"""benchmarks/drift.py, on a few rows."""

import json
import sys

import torch
from conftest import ROOT

from dploss.data import open_vectors


def test_a_line_of_each_case_says_what_a_new_training_won(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import drift

    names = [name for name, _, _ in drift.cases(open_vectors(limit=800).rows, 0)]
    assert len(set(names)) == len(names) == 8

    def two(rows, seed, cases=drift.cases):
        return [one for one in cases(rows, seed) if one[0] in ("the same", "rotated: another model")]

    monkeypatch.setattr(drift, "cases", two)
    flags = ["--limit", "800", "--seeds", "1", "--latent-dim", "16", "--json", str(tmp_path / "found.json")]
    monkeypatch.setattr(sys, "argv", ["drift.py", "--threads", str(torch.get_num_threads()), *flags])
    drift.main()
    same, rotated = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert (same["retrain"], rotated["retrain"]) == ("0 of 1", "1 of 1")
    # Epoch 0 is the closed form, but for the power of the norm.
    assert abs(float(rotated["gain"]) - float(rotated["retrained"])) < 0.03 < float(rotated["gain"])
