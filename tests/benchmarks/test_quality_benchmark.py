import json
import sys
from functools import partial
from importlib import import_module

import numpy as np
import pytest
import references
import torch
from conftest import ROOT

from dploss.config import TrainConfig
from dploss.data import split_rows

sys.path.append(str(ROOT / "benchmarks"))
quality, methods, report, quality_results, matryoshka = map(
    import_module, ("quality", "quality_methods", "quality_report", "quality_results", "matryoshka")
)

# UMAP compiles for half a minute: it is tried where it is installed, but not in every test.
QUICK_METHODS = [name for name in methods.METHODS if name not in methods.PACKAGES]


@pytest.fixture
def rows(tmp_path, monkeypatch):
    """1,100 x 12 rows in a file that stands for the built-in vectors: 110 of them are held out."""
    random = np.random.default_rng(0)
    rows = (random.normal(size=(1100, 12)) * np.linspace(2, 0.3, 12) + 1).astype(np.float32)
    np.save(tmp_path / "builtin.npy", rows)
    monkeypatch.setattr(quality, "BUILTIN", str(tmp_path / "builtin.npy"))
    return rows


@pytest.fixture
def run(tmp_path, rows):
    """Run the script, by default on quick methods at one size; its exit code."""

    def run_script(*flags, methods=QUICK_METHODS, seeds=(0,)):
        given = ["--quick", "--epochs", 1, "--sizes", 4, 12, "--seeds", *seeds, "--out", tmp_path / "made" / "q.json"]
        return quality.main([*map(str, [*given, *flags]), "--methods", *methods])

    return run_script


@pytest.fixture
def results(tmp_path):
    return lambda: json.loads((tmp_path / "made" / "q.json").read_text())


def case(method, source="builtin", size=4, seed=0):
    return methods.Case("tiny", str(source), 1100, seed, size, method, epochs=1, quick=True)


def keys(results):
    return {(entry["size"], entry["seed"], entry["method"]) for entry in results["entries"]}


def test_ndcg_equals_the_plain_loop():
    random = np.random.default_rng(0)
    original = random.normal(size=(40, 6))
    latent = original[:, :3]
    true, found = report.nearest(original, 5), report.nearest(latent, 5)
    scores = []
    for i, (before, after) in enumerate(zip(references.distances(original), references.distances(latent), strict=True)):
        others = [j for j in range(40) if j != i]
        wanted = sorted(others, key=lambda j: before[j])[:5]
        got = sorted(others, key=lambda j: after[j])[:5]
        assert (true[i].tolist(), found[i].tolist()) == (wanted, got)
        gained = sum((5 - wanted.index(j)) / np.log2(place + 2) for place, j in enumerate(got) if j in wanted)
        ideal = sum((5 - place) / np.log2(place + 2) for place in range(5))
        scores.append(gained / ideal)
    assert report.ndcg(true, found) == pytest.approx(np.mean(scores))


def test_ndcg_of_two_neighbours_by_hand():
    true = torch.tensor([[4, 7]])
    assert report.ndcg(true, true) == pytest.approx(1)
    # Worth 2 and 1; the second place counts 1 / log2(3) = 0.6309.
    assert report.ndcg(true, torch.tensor([[7, 4]])) == pytest.approx((1 + 2 * 0.630930) / (2 + 0.630930), abs=1e-6)
    assert report.ndcg(true, torch.tensor([[1, 7]])) == pytest.approx(0.630930 / (2 + 0.630930), abs=1e-6)
    assert report.ndcg(true, torch.tensor([[1, 2]])) == 0


def test_rows_as_they_are_keep_all_neighbours(rows):
    assert report.measure(rows, 3 * rows + 1) == pytest.approx(dict.fromkeys(report.MEASURES, 1), abs=1e-6)


def test_restored_lengths_are_the_distances_from_the_mean(rows):
    encode = methods.METHODS["PCA, renormalised"](rows[:500], case("PCA, renormalised"))
    latents = encode(rows)
    assert latents.shape == (1100, 4)
    lengths = np.linalg.norm(rows - rows[:500].mean(axis=0), axis=1)
    np.testing.assert_allclose(np.linalg.norm(latents, axis=1), lengths, rtol=1e-4)


def test_whitened_coordinates_have_the_same_spread(rows):
    encode = methods.METHODS["whitened PCA"](rows, case("whitened PCA"))
    np.testing.assert_allclose(encode(rows).std(axis=0), 1, rtol=1e-4)


# One loss stands for all: they differ in a setting.
@pytest.mark.parametrize("method", [name for name in methods.METHODS if not name.startswith(("DPLossV1", "DPLossV2"))])
def test_fitting_never_sees_held_out_rows(method, rows, tmp_path, monkeypatch):
    if method in methods.PACKAGES:
        pytest.importorskip({"UMAP": "umap"}.get(method, "torchdr"))
    _, held_out = split_rows(1100, 0.1, 0)
    noise = rows.copy()
    noise[held_out] = np.random.default_rng(1).normal(9, 5, size=(110, 12))
    np.save(tmp_path / "noise.npy", noise)

    fit, encoders = methods.METHODS[method], []
    monkeypatch.setitem(quality.METHODS, method, lambda *given: encoders.append(fit(*given)) or encoders[-1])
    for source in ("builtin.npy", "noise.npy"):
        outcome = quality.evaluate(case(method, tmp_path / source))
        assert "error" not in outcome and 0 <= outcome["recall@10"] <= 1
    same, other = (encode(rows[held_out]) for encode in encoders)
    assert same.shape == (110, 4)
    np.testing.assert_array_equal(same, other)


def test_all_methods_are_measured_once_and_shown(run, results, tmp_path, monkeypatch, capsys):
    assert run() == 0
    shown = capsys.readouterr().out
    for method in QUICK_METHODS:
        assert f"| {method} | " in shown
    assert "1,100 rows of 12 dimensions, 110 of them held out" in shown
    # 12 dimensions are no reduction: that size is skipped.
    assert keys(results()) == {(4, 0, method) for method in QUICK_METHODS}
    assert all(entry.keys() > {*report.MEASURES, "seconds", "threads"} for entry in results()["entries"])
    assert str(tmp_path) not in json.dumps(results())
    assert (tmp_path / "made" / "q.png").stat().st_size > 10_000

    before = results()
    monkeypatch.setattr(quality, "evaluate", lambda case: pytest.fail("measured again"))
    assert run() == 0
    assert capsys.readouterr().out == shown and results() == before
    assert run("--table-only", "--measure", "NDCG@10") == 0
    assert "NDCG@10" in capsys.readouterr().out


def test_again_measures_only_these_methods(run, monkeypatch):
    assert run(methods=["PCA", "truncation"]) == 0
    evaluate, evaluated = quality.evaluate, []
    monkeypatch.setattr(quality, "evaluate", lambda case: evaluated.append(case.method) or evaluate(case))
    assert run("--again", "PCA", methods=["PCA", "truncation"]) == 0
    assert evaluated == ["PCA"]
    assert run("--again", methods=["PCA", "truncation"]) == 0
    assert evaluated == ["PCA", "PCA", "truncation"]


def test_an_interrupted_run_goes_on(run, results, monkeypatch, capsys):
    evaluate, evaluated = quality.evaluate, []

    def interrupted(case):
        if len(evaluated) == 3:
            raise KeyboardInterrupt
        evaluated.append(case)
        return evaluate(case)

    names = ["PCA", "truncation"]
    monkeypatch.setattr(quality, "evaluate", interrupted)
    assert run(methods=names, seeds=(0, 1)) == 130
    assert "same flags" in capsys.readouterr().err
    assert keys(results()) == {(4, 0, "PCA"), (4, 0, "truncation"), (4, 1, "PCA")}

    monkeypatch.setattr(quality, "evaluate", evaluate)
    assert run(methods=names, seeds=(0, 1)) == 0
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1 and "mean of 2 seeds" in shown.out and " ± " in shown.out
    assert keys(results()) == {(4, seed, method) for seed in (0, 1) for method in names}


def test_what_is_won_back_is_the_mean_over_the_seeds(run, results):
    assert run(methods=["PCA, renormalised", "truncation"], seeds=(0, 1)) == 0
    found = {(entry["seed"], entry["method"]): entry["recall@10"] for entry in results()["entries"]}
    pca, other = ([found[seed, method] for seed in (0, 1)] for method in ("PCA, renormalised", "truncation"))
    one = report.summaries(results()["entries"], "builtin", "recall@10")["truncation"][4]
    assert one.mean == pytest.approx(sum(other) / 2)
    assert one.spread == pytest.approx(abs(other[0] - other[1]) / 2)
    shares = [(mine - its) / (1 - its) for mine, its in zip(other, pca, strict=True)]
    assert one.recovered == pytest.approx(sum(shares) / 2)
    assert one.recovered_spread == pytest.approx(abs(shares[0] - shares[1]) / 2)
    figure = report.draw_figure(results(), "recall@10")
    # Truncation is the first that is drawn.
    for axes, mean, spread in zip(
        figure.axes, (one.mean, one.recovered), (one.spread, one.recovered_spread), strict=True
    ):
        (bar,) = axes.containers[0].lines[2][0].get_segments()
        np.testing.assert_allclose(bar, [[4, mean - spread], [4, mean + spread]])


def test_a_failing_method_is_said_and_stops_nothing(run, results, monkeypatch, capsys):
    def failing(rows, case):
        raise RuntimeError("no luck\ntoday")

    monkeypatch.setitem(quality.METHODS, "whitened PCA", failing)
    assert run(methods=["whitened PCA", "PCA"]) == 0
    shown = capsys.readouterr()
    assert "whitened PCA: RuntimeError: no luck today" in shown.err
    assert "| whitened PCA | failed |" in shown.out and "Failed: whitened PCA: RuntimeError: no luck today" in shown.out
    assert keys(results()) == {(4, 0, "whitened PCA"), (4, 0, "PCA")}


def test_a_method_without_its_package_is_left_out(run, results, monkeypatch, capsys):
    monkeypatch.setattr(quality, "version_of", lambda package: None)
    assert run(methods=["UMAP", "PCA"]) == 0
    assert "UMAP is skipped: umap-learn is not installed" in capsys.readouterr().err
    assert keys(results()) == {(4, 0, "PCA")}


def test_results_of_other_rows_or_settings_are_not_mixed(run, results, capsys):
    assert run(methods=["PCA", "DPLossV2"]) == 0
    before = results()
    assert run("--limit", 1050, methods=["PCA"]) == 2
    assert run("--epochs", 2, methods=["PCA"]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.endswith("--again DPLossV2") and results() == before
    assert run("--epochs", 2, "--again", "DPLossV2", methods=["PCA", "DPLossV2"]) == 0
    assert results()["ours"]["epochs"] == 2 and keys(results()) == keys(before)


def test_the_published_results_can_be_continued():
    # A new setting that changes no result is among the varied ones; one that does asks for all of ours again.
    published = json.loads((ROOT / "docs" / "quality.json").read_text())["ours"]
    assert quality_results.our_settings(published["epochs"]).keys() == published.keys()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--limit", "900"), "90 of its 900 rows are held out"),
        (("--sizes", "12"), "nothing to measure"),
        (("--data", "nowhere.npy"), "no such file"),
        (("--table-only", "--out", "nothing.json"), "measure first"),
    ],
)
def test_what_cannot_be_measured_is_said_in_a_line(flags, message, run, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(*flags) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize("flags", [("--jobs", "0"), ("--seeds", "-1"), ("--methods", "magic"), ("--sizes", "x")])
def test_a_wrong_flag_is_one_line(flags, capsys):
    with pytest.raises(SystemExit) as left:
        quality.main(flags)
    assert left.value.code == 2 and capsys.readouterr().err.count("\n") == 1


def test_a_matryoshka_encoder_is_compared_with_encoders_of_the_same_rows(rows, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(matryoshka, "TrainConfig", partial(TrainConfig, epochs=2))
    source, alone, figures = (tmp_path / name for name in ("builtin.npy", "alone.json", "figures.json"))
    entries = [
        {"data": "builtin", "size": size, "seed": 0, "method": "DPLossV3", "recall@10": recall}
        for size, recall in ((4, 0.5), (8, 0.8))
    ]
    data = quality_results.described("builtin", str(source), 10_000)
    alone.write_text(json.dumps({"data": [data], "entries": entries}), encoding="utf-8")
    flags = [*map(str, ("--data", source, "--alone", alone, "--seeds", 0, "--threads", 1, "--json", figures))]
    assert matryoshka.main([*flags, "--sizes", "4", "8", "12"]) == 0
    *lines, mean = json.loads(figures.read_text(encoding="utf-8"))["rows"]
    for size, recall in (("4", 0.5), ("8", 0.8)):
        of_its_own, together, lost = (line[size] for line in lines)
        assert of_its_own == recall and 0 < together < 1 and lost == mean[size] == pytest.approx(recall - together)
    capsys.readouterr()
    assert matryoshka.main([*flags, "--sizes", "4", "--limit", "1050"]) == 2
    assert "no results of these 1050 rows of builtin" in capsys.readouterr().err
    assert matryoshka.main([*flags, "--sizes", "12"]) == 2
    assert "none is below the 12 dimensions" in capsys.readouterr().err
