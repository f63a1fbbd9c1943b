"""test.py --drift: new rows beside those of the training, a verdict and its exit code."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from dploss.config import TrainConfig
from dploss.data import open_vectors, split_rows
from dploss.evaluation.recall import RecallEvaluator
from dploss.models.build import load_encoder
from dploss.models.pca import PCA
from dploss.training.launch import new_experiment

DIM, TRAINED, HELD_OUT = 48, 1000, 200
FIGURES = {"norm_average", "norm_ks", "distance_from_mean_spread", "variance_lost", "avoidable_loss"}


def trained(home: Path, **settings):
    files = {"data": str(home / "old.npy"), "checkpoints_dir": str(home / "checkpoints")}
    more = {"epochs": 0, "val_fraction": 0.2} | settings
    run = new_experiment(TrainConfig(quiet=True, no_tensorboard=True, **files, **more))
    run.run()
    return run.folder


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """Files of old and new rows, and the experiments "latents" and "codes"; not to be changed."""
    home = tmp_path_factory.mktemp("drift")
    rows = np.random.default_rng(0).permutation(open_vectors(limit=4000).rows[:, :DIM])
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(DIM, DIM)))[0]
    new = {
        "old": rows[:TRAINED],
        "same": rows[TRAINED : TRAINED + 800],
        "mixed": np.concatenate([rows[:TRAINED], rows[2000:2600]]),
        "rotated": rows[2000:2800] @ rotation,
        "few": rows[2000:2060],
        "too_few": rows[2000:2041],
        "empty": rows[split_rows(TRAINED, 0.2, 0)[0]][:50],
    }
    for name, some in new.items():
        np.save(home / f"{name}.npy", some.astype(np.float32))
    trained(home, latent_dim=8).rename(home / "latents")
    trained(home, bytes=8, code="int8").rename(home / "codes")
    return home


@pytest.fixture
def drift(call, home):
    """The exit code and the JSON of a run."""

    def measured(name, *flags, experiment="latents"):
        new = home / f"{name}.npy"
        done = call("test.py", "--experiment_id", home / experiment, "--data", new, "--drift", "--json", *flags)
        return done.returncode, json.loads(done.stdout)["drift"]

    return measured


@pytest.mark.parametrize("experiment", ["latents", "codes"])
def test_rows_of_the_same_kind_are_fine_and_rotated_ones_are_not(drift, experiment):
    code, found = drift("same", experiment=experiment)
    assert (code, found["verdict"], found["rows"], found["k"]) == (0, "fine", HELD_OUT, 10)
    assert sum(move["moved"] for move in found["figures"].values()) <= 1
    assert found["gain"]["gain"] < found["notable"] == 0.02
    code, other = drift("rotated", experiment=experiment)
    assert (code, other["verdict"], other["uncertain"]) == (3, "retrain", None)
    # All 48 dimensions are latents where they are stored: only the code loses neighbours.
    lost = ("recall_stored",) if experiment == "codes" else ("recall", "avoidable_loss", "variance_lost")
    for name in lost:
        assert other["figures"][name]["moved"], name
        assert other["figures"][name]["held_out"] == found["figures"][name]["held_out"]
    assert other["gain"]["gain"] > 0.1 and other["reason"].endswith("a new training can win that")
    assert (
        found["form"] == ("int8, 8 bytes" if experiment == "codes" else "latents") and set(found["figures"]) > FIGURES
    )


def test_recall_is_of_as_many_rows_of_either_and_the_gain_of_a_closed_form(drift, home):
    _, found = drift("same", "--k", "5")
    old, new = np.load(home / "old.npy"), np.load(home / "same.npy")
    training, held_out = split_rows(TRAINED, 0.2, 0)
    encoder, evaluator = load_encoder(home / "latents"), RecallEvaluator(5)
    recall = evaluator.evaluate(old[held_out], encoder.encode(old[held_out])).value
    assert found["figures"]["recall"]["held_out"] == pytest.approx(recall)
    order = np.random.RandomState(0).permutation(800)
    test_rows, fitted_rows = new[order[:400]], new[order[400:]]
    gain = found["gain"]
    assert (gain["evaluated_rows"], gain["new_rows"], gain["training_rows"]) == (400, 400, 800)
    for name, rows in (("fitted_to_training", old[training]), ("fitted_to_new", fitted_rows)):
        latents = PCA.fit(rows, 8).encode_renormalised(test_rows)
        assert gain[name] == pytest.approx(evaluator.evaluate(test_rows, latents).value, abs=1e-3)
    assert gain["gain"] == pytest.approx(gain["fitted_to_new"] - gain["fitted_to_training"])


def test_training_rows_among_the_new_ones_are_left_out(drift):
    code, found = drift("mixed")
    assert code == 0
    # 600 new rows and 200 that were held out.
    assert found["gain"]["new_rows"] + found["gain"]["evaluated_rows"] == 800


def test_few_rows_leave_it_uncertain(drift):
    code, found = drift("few", "--k", "5")
    assert (code, found["verdict"], found["rows"]) == (0, "fine", 30)
    assert found["uncertain"].startswith("30 rows leave ±")


def test_a_person_reads_a_table_and_a_verdict(call, home, tmp_path):
    shutil.copytree(home / "latents", tmp_path / "latents")
    flags = ["--experiment_id", "latents", "--data", home / "rotated.npy", "--drift", "--plot", "--plot-method", "pca"]
    done = call("test.py", *flags)
    lines = done.stdout.splitlines()
    assert done.returncode == 3 and (tmp_path / "latents" / "spaces.png").is_file()
    assert "drift: 200 new rows beside as many held-out rows of the training" in lines
    assert next(line for line in lines if line.startswith("avoidable loss")).endswith("yes")
    verdict = lines.index("verdict   retrain")
    assert lines[verdict + 1].startswith("reason    fitted to 400 of the new rows, a closed form keeps 0.")
    assert "old rows  their codes and latents stay valid" in done.stdout
    assert max(map(len, lines[lines.index("closed form (latents) on 400 new rows, fitted to") :])) <= 80


def test_what_cannot_be_is_said_in_a_line(call, home, tmp_path, capsys):
    def refused(*flags, folder=home / "latents"):
        done = call("test.py", "--experiment_id", folder, "--drift", *flags)
        assert done.returncode == 2 and not done.stdout and done.stderr.count("\n") == 1, done.stderr
        return done.stderr

    assert "--drift needs --data" in refused()
    own = refused("--data", home / "old.npy")
    assert f"{home / 'old.npy'} holds the rows of the training, whose held-out ones cannot have moved" in own
    assert "41 new rows; --drift takes 42 for 10 neighbours" in refused("--data", home / "too_few.npy")
    assert "50 of 50 rows are training rows, left out" in refused("--data", home / "empty.npy")
    (tmp_path / "old.npy").write_bytes((home / "old.npy").read_bytes())
    folder = trained(tmp_path, latent_dim=8, val_fraction=0)
    capsys.readouterr()
    assert "held out of the training, which held out none" in refused("--data", home / "same.npy", folder=folder)
    for_queries = trained(tmp_path, latent_dim=8, metric="ip")
    capsys.readouterr()
    assert "trained for other queries" in refused("--data", home / "same.npy", folder=for_queries)
    path = folder / "latest_model.pth"
    checkpoint = torch.load(path)
    checkpoint["config"]["val_fraction"] = 0.01
    torch.save(checkpoint, path)
    few = refused("--data", home / "same.npy", "--k", "10", folder=folder)
    assert "10 held-out rows; for 10 neighbours it takes 21" in few
    (tmp_path / "old.npy").unlink()
    assert "training's rows, which cannot be opened" in refused("--data", home / "same.npy", folder=folder)
