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


def test_a_residual_that_is_a_product_is_found():
    decoded = np.random.default_rng(0).normal(size=(5000, 4)).astype(np.float32) * [3, 2, 1, 0.1]
    residuals = np.stack([decoded[:, 0] * decoded[:, 1], decoded[:, 2] ** 2 - 1], axis=1).astype(np.float32)
    noisy = residuals + np.random.default_rng(1).normal(size=residuals.shape).astype(np.float32)
    fitted = benchmark.SecondOrder(decoded.astype(np.float32), noisy, 3)
    assert np.square(fitted.residuals(decoded) - residuals).mean() < 0.05 * np.square(residuals).mean()
    # Of axes whose products are not taken, nothing.
    two = benchmark.SecondOrder(decoded.astype(np.float32), noisy, 2).residuals(decoded)
    assert np.square(two[:, 1] - residuals[:, 1]).mean() > 0.9 * residuals[:, 1].var()


def test_noise_is_left_out():
    random = np.random.default_rng(0)
    decoded, noise = random.normal(size=(2, 400, 12)).astype(np.float32)
    fitted = benchmark.SecondOrder(decoded, noise, 12).residuals(random.normal(size=(1000, 12)).astype(np.float32))
    assert np.square(fitted).mean() < 0.2


def test_a_table_is_printed(tmp_path, monkeypatch, capsys):
    np.save(tmp_path / "small.npy", open_vectors(limit=600).rows[:, :64])
    flags = ["--data", str(tmp_path / "small.npy"), "--bytes", "8", "--axes", "6", "99", "--json"]
    monkeypatch.setattr(sys, "argv", ["second_order.py", *flags, str(tmp_path / "table.json")])
    benchmark.main()
    linear, second = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert (linear["data"], linear["axes"], linear["squared error"]) == ("small", 0, 1)
    assert second["axes"] == 6 and 0.5 < second["squared error"] < 1.1 and 0.2 < second["recall"] <= 1
    assert "| small | 8 | 6 |" in capsys.readouterr().out
