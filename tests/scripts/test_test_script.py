import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from sklearn.random_projection import GaussianRandomProjection

from dploss.commands import test as script
from dploss.config import TrainConfig
from dploss.data import open_vectors, split_rows
from dploss.experiments.catalog import list_experiments
from dploss.models.build import load_encoder
from dploss.training.launch import new_experiment


@pytest.fixture
def experiments(checkpoints, monkeypatch):
    monkeypatch.chdir(checkpoints.parent)
    return list_experiments("checkpoints")[0]


@pytest.fixture
def report(experiments, capsys):
    """The report of a run with these flags."""

    def printed(*flags):
        assert script.main([*flags, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return printed


def sklearn_recall(original, latent, k):
    near = [NearestNeighbors(n_neighbors=k).fit(rows).kneighbors(return_distance=False) for rows in (original, latent)]
    return np.mean([len({*a} & {*b}) / k for a, b in zip(*near, strict=True)])


def test_figures_agree_with_scikit_learn(report, experiments):
    rows = open_vectors(limit=400).rows
    training, held_out = split_rows(400, 0.1, 0)
    found = report("--k", "1", "5", "10")
    assert (found["rows"], found["training_rows"], found["held_out"]) == (40, 360, True)
    evaluated = rows[held_out]
    pca = PCA(16, svd_solver="full").fit(rows[training])

    def renormalised(latent, centred):
        return latent * np.linalg.norm(centred, axis=1, keepdims=True) / np.linalg.norm(latent, axis=1, keepdims=True)

    latents = {
        "encoder": load_encoder(experiments[0].folder / "best.pt").encode(evaluated),
        "start": load_encoder(experiments[0].folder / "checkpoint_epoch_000.pth").encode(evaluated),
        "PCA, renormalised": renormalised(pca.transform(evaluated), evaluated - rows[training].mean(axis=0)),
        "PCA": pca.transform(evaluated),
        "truncation": renormalised(evaluated[:, :16], evaluated),
        "random projection": GaussianRandomProjection(16, random_state=0).fit(rows[training]).transform(evaluated),
    }
    assert list(found["methods"]) == [name for name in latents if name != "start" or found["epoch"]]
    for name in found["methods"]:
        latent = latents[name]
        for k in (1, 5, 10):
            got = found["methods"][name]["recall"][str(k)]
            assert got == pytest.approx(sklearn_recall(evaluated, latent, k), abs=1e-3), (name, k)


def test_the_report_is_whole(report, experiments):
    found = report()
    assert found["checkpoint"] == f"checkpoints/{experiments[0].id}/best.pt"
    assert found["bytes_per_vector"] == {"original": 3072, "latent": 64}
    assert found["encoding"]["device"] == "cpu" and found["encoding"]["rows_per_second"] > 0
    encoder = found["methods"]["encoder"]
    # 50 neighbours of 40 rows do not exist.
    assert list(encoder["recall"]) == ["1", "5", "10"] and list(encoder["reranked"]) == ["2", "5", "10"]
    assert encoder["recall"]["5"] == max(experiments[0].history.recall_history)
    history = experiments[0].history
    assert found["methods"]["PCA"]["recall"]["5"] == history.pca_recall
    assert found["methods"]["PCA, renormalised"]["recall"]["5"] == history.pca_renormalised_recall
    assert found["left_out"] == {}
    latest = report("--checkpoint", str(experiments[0].folder / "latest_model.pth"))
    assert latest["methods"]["start"]["recall"]["5"] == history.start_recall


def test_it_says_whether_the_rows_chose_the_checkpoint(report, experiments, capsys):
    folder = experiments[0].folder
    assert report()["chosen_on_them"] is True
    best = (folder / "best.pt").resolve().name
    other = next(path for path in folder.glob("checkpoint_epoch_*.pth") if path.name != best)
    assert report("--checkpoint", str(folder / best))["chosen_on_them"] is True
    assert report("--checkpoint", str(other))["chosen_on_them"] is False
    assert script.main([]) == 0
    assert "chosen        as the best by these very rows" in capsys.readouterr().out


def test_a_matryoshka_encoder_is_judged_at_each_size(report, experiments, capsys):
    config = TrainConfig(limit=400, matryoshka_dims=(8, 16), hidden_dims=(16,), epochs=1, batch_size=128, quiet=True)
    run = new_experiment(config)
    run.run()
    found = report("--experiment_id", str(run.folder), "--k", "5")
    cuts = found["cuts"]
    assert list(cuts) == ["8", "16"]
    for dim, both in cuts.items():
        epochs = dict(zip(run.history.recall_epochs, run.history.recall_by_dim[dim], strict=True))
        assert both["encoder"]["recall"]["5"] == epochs[found["epoch"]]
        assert both["PCA"]["recall"]["5"] == run.history.pca_recall_by_dim[dim]
        assert both["PCA, renormalised"]["recall"]["5"] == run.history.pca_renormalised_recall_by_dim[dim]
    assert script.main(["--experiment_id", str(run.folder)]) == 0
    assert "truncated to the first dimensions, norm restored" in capsys.readouterr().out


def test_run_as_a_person_does(run, experiments, tmp_path):
    done = run("test.py", "--neighbours", 3, "--plot", "--plot-method", "pca")
    assert done.returncode == 0
    encoder = next(line for line in done.stdout.splitlines() if line.startswith("encoder  "))
    assert f"{max(experiments[0].history.recall_history):.4f}" in encoder
    assert "evaluated on  40 held-out rows of builtin" in done.stdout
    assert "768 -> 16 dimensions, 3,072 -> 64 bytes a vector" in done.stdout
    assert done.stdout.count("nearest of 40 rows by 768 dimensions") == 5
    assert done.stdout.endswith(f"\ncheckpoints/{experiments[0].id}/spaces.png\n")
    assert Image.open(experiments[0].folder / "spaces.png").size == (1950, 1080)


def test_the_best_checkpoint_comes_before_the_latest(report, experiments):
    folder = experiments[1].folder
    (folder / "best.pt").unlink()
    (folder / "best.pt").symlink_to("checkpoint_epoch_002.pth")
    found = report("--experiment_id", experiments[1].id[:8])
    assert (found["checkpoint"], found["epoch"]) == (f"{folder}/best.pt", 2)
    (folder / "best.pt").unlink()
    found = report("--experiment_id", experiments[1].id[:8])
    assert (found["checkpoint"], found["epoch"]) == (f"{folder}/latest_model.pth", 4)
    assert report("--checkpoint", str(folder / "checkpoint_epoch_002.pth"))["epoch"] == 2


def test_a_checkpoint_alone_is_enough(report, experiments, tmp_path):
    shutil.copy(experiments[0].folder / "latest_model.pth", tmp_path / "alone.pth")
    shutil.rmtree("checkpoints")
    found = report("--checkpoint", "alone.pth")
    assert found["methods"]["PCA"] and found["left_out"] == {
        "start": "no checkpoint_epoch_000.pth beside the checkpoint"
    }


def test_other_vectors(report, experiments, tmp_path, capsys):
    rows = open_vectors().rows[400:600]
    pq.write_table(pa.table({"emb": list(rows), "text": [f"row {i}" for i in range(200)]}), tmp_path / "other.parquet")
    found = report("--data", "other.parquet", "--rows", "150")
    assert (found["rows"], found["held_out"], found["training_rows"]) == (150, False, 360)
    assert script.main(["--data", "other.parquet", "--neighbours", "2"]) == 0
    assert capsys.readouterr().out.count("row ") == 5 * (1 + 2 + 2)
    # The experiment's own rows, under another name: evaluated on those that were held out.
    np.save(tmp_path / "own.npy", open_vectors(limit=400).rows)
    assert report("--data", "own.npy")["rows"] == 40


def test_without_the_training_rows_pca_is_left_out_and_said(report, experiments, tmp_path, capsys):
    path = experiments[0].folder / "best.pt"
    move_data(path, "/gone.npy")
    np.save(tmp_path / "other.npy", open_vectors().rows[400:500])
    found = report("--data", "other.npy")
    assert [name for name in found["methods"] if name != "start"] == ["encoder", "truncation", "random projection"]
    assert "/gone.npy: no such file" in found["left_out"]["PCA"] and found["training_rows"] is None
    assert script.main(["--data", "other.npy"]) == 0
    assert "left out: PCA, fitted on the training rows: /gone.npy" in capsys.readouterr().out
    assert script.main([]) == 2
    assert capsys.readouterr().err == "test.py: /gone.npy: no such file\n"


def move_data(path, to):
    import torch

    checkpoint = torch.load(path)
    checkpoint["config"]["data"]["path"] = to
    torch.save(checkpoint, path)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--checkpoint", "gone.pth"], "gone.pth: no such checkpoint"),
        (["--experiment_id", "zz"], "no experiment 'zz'"),
        (["--checkpoint", "a", "--experiment_id", "b"], "--checkpoint and --experiment_id both name an encoder"),
        (["--column", "emb"], "--column needs --data"),
        (["--limit", "7"], "--limit needs --data"),
        (["--text-column", "text"], "--text-column needs --neighbours"),
        (["--json", "--neighbours", "3"], "--neighbours prints text, which does not go with --json"),
        (["--neighbours", "0"], "--neighbours must be at least 1, got 0"),
        (["--neighbours", "40"], "builtin: 40 rows are too few"),
        (["--k", "0", "5"], "--k must be at least 1, got 0"),
        (["--k", "50"], "builtin: 40 rows are too few"),
        (["--rows", "2"], "--rows must be at least 3, got 2"),
        (["--data", "gone.npy"], "gone.npy: no such file"),
        (["--data", "short.npy"], "short.npy: its vectors have 5 dimensions, the encoder takes 768"),
        (["--data", "long.npy", "--neighbours", "3"], "this format has no texts"),
        (["--plot", "a.txt"], "a.txt: a figure's name ends in .png, .pdf, .svg"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(experiments, flags, message, tmp_path, capsys):
    np.save(tmp_path / "short.npy", np.ones((10, 5)))
    np.save(tmp_path / "long.npy", np.random.default_rng(0).normal(size=(10, 768)))
    assert script.main(flags) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and message in printed.err and printed.err.count("\n") == 1


def test_without_an_experiment_it_says_how_to_make_one(run):
    done = run("test.py")
    assert done.returncode == 2
    assert done.stderr.startswith("test.py: no experiment in checkpoints: train.py makes one")


def test_a_training_without_held_out_rows_needs_other_data(experiments, capsys):
    import torch

    path = experiments[0].folder / "best.pt"
    checkpoint = torch.load(path)
    checkpoint["config"]["val_fraction"] = 0.0
    torch.save(checkpoint, path)
    assert script.main([]) == 2
    assert "held out none of its rows; name other vectors with --data" in capsys.readouterr().err


def shuffled(rows):
    return np.random.default_rng(0).permutation(rows)


TRAINING, HELD_OUT = split_rows(400, 0.1, 0)


@pytest.mark.parametrize(
    ("choose", "left_out"),
    [
        (lambda rows: shuffled(rows[:400]), 360),
        (lambda rows: rows[:700], 360),
        (lambda rows: np.concatenate([rows[500:520], rows[TRAINING[:30]]]), 30),
        (lambda rows: rows[HELD_OUT], 0),
        (lambda rows: rows[500:600], 0),
    ],
    ids=["shuffled", "and new rows", "a part of them", "held-out ones alone", "new rows alone"],
)
@pytest.mark.parametrize("suffix", ["npy", "parquet"])
def test_training_rows_in_another_file_are_left_out(choose, left_out, suffix, report, tmp_path, capsys):
    rows = choose(open_vectors().rows)
    if suffix == "npy":
        np.save(tmp_path / "other.npy", rows.astype(np.float64))
    else:
        pq.write_table(pa.table({"emb": list(rows)}), tmp_path / "other.parquet")
    found = report("--data", f"other.{suffix}", "--k", "5")
    assert (found["training_rows_left_out"], found["rows"]) == (left_out, len(rows) - left_out)
    trained_on = {row.tobytes() for row in open_vectors(limit=400).rows[TRAINING]}
    unseen = np.array([row for row in rows if row.tobytes() not in trained_on])
    latents = unseen[:, :16] * (np.linalg.norm(unseen, axis=1) / np.linalg.norm(unseen[:, :16], axis=1))[:, None]
    expected = sklearn_recall(unseen, latents, 5)
    assert found["methods"]["truncation"]["recall"]["5"] == pytest.approx(expected, abs=1e-3)
    assert script.main(["--data", f"other.{suffix}", "--k", "5"]) == 0
    line = f"training rows  {left_out} of {len(rows)} rows are training rows, left out"
    assert (line in capsys.readouterr().out) == (left_out > 0)


def test_another_limit_leaves_the_training_rows_out(report):
    assert report("--data", "builtin", "--limit", "300")["training_rows_left_out"] == sum(TRAINING < 300)
    found = report("--data", "builtin", "--limit", "1000", "--rows", "200")
    assert (found["training_rows_left_out"], found["rows"]) == (360, 200)


@pytest.mark.parametrize("unseen", [0, 1])
def test_a_file_of_training_rows_is_refused(unseen, experiments, tmp_path, capsys):
    rows = open_vectors().rows
    np.save(tmp_path / "seen.npy", np.concatenate([rows[TRAINING[:50]], rows[400 : 400 + unseen]]))
    assert script.main(["--data", "seen.npy"]) == 2
    few = ("0 rows are", "1 row is")[unseen]
    expected = f"50 of {50 + unseen} rows are training rows, left out; {few} too few for that many neighbours"
    assert capsys.readouterr().err == f"test.py: {tmp_path}/seen.npy: {expected}\n"


def test_codes_stay_beside_their_rows_where_training_rows_are_left_out(report, experiments, tmp_path, capsys):
    from dploss.commands import encode

    rows = np.concatenate([open_vectors().rows[500:560], shuffled(open_vectors(limit=400).rows)])
    np.save(tmp_path / "other.npy", rows)
    assert encode.main(["other.npy", "short.npy", "--quiet"]) == 0
    capsys.readouterr()
    found = report("--encoded", "short.npy", "--k", "5")
    assert (found["training_rows_left_out"], found["rows"]) == (360, 100)
    methods = found["methods"]
    assert methods["short.npy (float32)"]["recall"] == methods["encoder"]["recall"]


def test_where_training_rows_cannot_be_opened_that_is_said(report, experiments, tmp_path, capsys):
    move_data(experiments[0].folder / "best.pt", "/gone.npy")
    np.save(tmp_path / "other.npy", open_vectors(limit=100).rows)
    assert report("--data", "other.npy")["training_rows_left_out"] is None
    assert script.main(["--data", "other.npy"]) == 0
    printed = capsys.readouterr().out
    assert "training rows  whether training rows are among them could not be checked" in printed


def test_ties_are_reported(report, experiments, tmp_path, capsys):
    assert report("--k", "5")["ties"] == {"tied": {"5": 0}, "twins": 0, "rows": 40}
    np.save(tmp_path / "twins.npy", np.repeat(open_vectors().rows[500:510], 8, axis=0))
    assert report("--data", "twins.npy", "--k", "5", "7")["ties"] == {
        "tied": {"5": 80, "7": 0},
        "twins": 80,
        "rows": 80,
    }
    assert script.main(["--data", "twins.npy", "--k", "5"]) == 0
    assert "ties          80 of 80 rows have more than 5 nearest neighbours" in capsys.readouterr().out
