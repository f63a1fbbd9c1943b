"""The benchmarks of trainings: against their start, and with more rows."""

import json
import sys
from importlib import import_module

import numpy as np
import pytest
from conftest import ROOT

from dploss.data import open_vectors
from dploss.evaluation.recall import RecallEvaluator
from dploss.models.pca import PCA

sys.path.append(str(ROOT / "benchmarks"))
start_benchmark, rows_benchmark = map(import_module, ("start", "rows"))


@pytest.fixture
def vectors(tmp_path):
    """A file of 400 rows of 64 dimensions."""
    path = tmp_path / "small.npy"
    np.save(path, open_vectors(limit=400).rows[:, :64])
    return path


def test_every_training_is_told_against_its_start(vectors, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(start_benchmark, "LENGTHS", ((200, 1), (300, 2), (400, 3)))
    flags = ["--data", str(vectors), "--sizes", "16", "512", "--seeds", "0", "--out", str(tmp_path / "start.json")]
    flags += ["--losses", "DPLossV2", "DPLossV3", "--lengths", "0", "2"]
    assert start_benchmark.main(flags) == 0
    entries = json.loads((tmp_path / "start.json").read_text())["entries"]
    assert len(entries) == 8
    # 512 dimensions are not below 64: half of those.
    assert {one["latent_dim"] for one in entries} == {16, 32}
    for one in entries:
        assert one["best.pt"] == max(one["start"], one["last"]) and one["PCA"] < 1
    lines = capsys.readouterr().out.splitlines()
    worst = min(
        one["last"] - one["start"] for one in entries if (one["limit"], one["loss_function"]) == (400, "DPLossV3")
    )
    (line,) = (line.split() for line in lines if line.split()[:2] == ["DPLossV3", "400"])
    assert line[2:4] == ["3", "2"] and line[6] == f"{worst:+.4f}"
    # Finished trainings are not repeated.
    monkeypatch.setattr(start_benchmark, "trained", None)
    assert start_benchmark.main(flags) == 0


def test_rows_are_tested_on_the_last_of_the_file(vectors, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(rows_benchmark, "_TEST_ROWS", 100)
    flags = ["--data", str(vectors), "--rows", "150", "300", "--epochs", "1", "2", "--sizes", "16"]
    flags += ["--losses", "DPLossV3", "--out", str(tmp_path / "rows.json")]
    assert rows_benchmark.main(flags) == 0
    entries = json.loads((tmp_path / "rows.json").read_text())["entries"]
    found = {(one["rows"], one["method"]): one["recall@10"] for one in entries}
    whole = np.load(vectors)
    pca = PCA.fit(whole[:150], 16)
    expected = RecallEvaluator(10).evaluate(whole[300:], pca.encode_renormalised(whole[300:])).value
    assert found[150, "PCA, renormalised"] == expected and len(found) == 4
    share = (found[150, "DPLossV3"] - found[150, "PCA, renormalised"]) / (1 - found[150, "PCA, renormalised"])
    shown = f"{found[150, 'DPLossV3']:.3f}" + (f" {share:+.1%}" if share else "")
    assert shown in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--rows", "301", "--epochs", "1"], "--rows 301: the file has 400 rows, 100 of them to test on"),
        (["--rows", "50", "--epochs", "1", "2"], "--epochs: give as many as --rows"),
    ],
)
def test_rows_that_do_not_fit_are_refused(vectors, monkeypatch, capsys, flags, message):
    monkeypatch.setattr(rows_benchmark, "_TEST_ROWS", 100)
    assert rows_benchmark.main(["--data", str(vectors), *flags]) == 2
    assert message in capsys.readouterr().err
