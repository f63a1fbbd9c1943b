"""train.py --bytes and test.py on what it leaves: stored forms, as people run them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dploss import load_encoder
from dploss.codes.pq import ProductCode
from dploss.config import TrainConfig
from dploss.data import open_vectors, split_rows
from dploss.errors import InputError
from dploss.evaluation.recall_history import recorded_recall
from dploss.experiments.catalog import open_experiment
from dploss.models.pca import PCA
from dploss.plots import quick_figure
from dploss.training.launch import new_experiment, resumed_experiment

BYTES, ROWS = 8, 400


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> Path:
    """The folder of an experiment of 8 bytes a vector: 64 dimensions, 2 epochs, a checkpoint of each."""
    folder = tmp_path_factory.mktemp("stored") / "checkpoints"
    config = TrainConfig(bytes=BYTES, limit=ROWS, epochs=2, save_interval=1, checkpoints_dir=str(folder), quiet=True)
    run = new_experiment(config)
    run.run()
    return run.folder


def history(folder: Path) -> dict:
    return json.loads((folder / "train_history.json").read_text())


def by_a_plain_loop(rows: np.ndarray, scores: np.ndarray, k: int) -> float:
    """Mean share of each row's k nearest others by float64 distance that are among its k best by `scores`."""
    kept = 0
    for row in range(len(rows)):
        others = [other for other in range(len(rows)) if other != row]
        distance = {other: float(((rows[row].astype(np.float64) - rows[other]) ** 2).sum()) for other in others}
        true = set(sorted(others, key=distance.__getitem__)[:k])
        kept += len(true & set(sorted(others, key=lambda other: scores[row, other])[:k]))
    return kept / (k * len(rows))


def test_latents_have_a_dimension_for_every_bit_up_to_those_of_the_vectors_and_256_at_least(stored):
    record = json.loads((stored / "config.json").read_text())
    assert (record["bytes"], record["code"], record["latent_dim"]) == (BYTES, "trellis", 256)
    assert TrainConfig(bytes=64).fitted_to(1000, 768).latent_dim == 512
    assert TrainConfig(bytes=64).fitted_to(1000, 384).latent_dim == 384
    assert TrainConfig(bytes=200, code="int8").fitted_to(1000, 768).latent_dim == 400
    assert TrainConfig(bytes=64, latent_dim=100).fitted_to(1000, 384).latent_dim == 100


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_every_checkpoint_has_the_code_whose_recall_its_history_has(stored, epoch):
    encoder = load_encoder(stored / f"checkpoint_epoch_{epoch:03d}.pth")
    rows = open_vectors(limit=ROWS).rows
    held_out = rows[split_rows(ROWS, 0.1, 0)[1]]
    codes = encoder.encode_to_codes(held_out)
    assert (codes.dtype, codes.shape) == (np.uint8, (len(held_out), BYTES))
    recall = by_a_plain_loop(held_out, encoder.code.score(encoder.encode(held_out), codes), 5)
    assert history(stored)["recall_history"][epoch] == pytest.approx(recall, abs=1e-9)


def test_the_first_epoch_is_saved_and_may_be_the_best(tmp_path, monkeypatch):
    # Of few rows it would be the start's code.
    monkeypatch.setattr("dploss.codes.refined_code.shares_kept", lambda *_: (1.0, 0.0))
    config = TrainConfig(bytes=BYTES, limit=ROWS, epochs=4, save_interval=3, checkpoints_dir=str(tmp_path), quiet=True)
    run = new_experiment(config)
    run.run()
    assert sorted(int(path.stem[-3:]) for path in run.folder.glob("checkpoint_epoch_*.pth")) == [0, 1, 3, 4]
    names = [load_encoder(run.folder / f"checkpoint_epoch_{epoch:03d}.pth").code.name for epoch in (0, 1, 3, 4)]
    assert names == ["trellis", "refined trellis", "refined trellis", "refined trellis"]
    assert history(run.folder)["recall_epochs"] == [0, 1, 3, 4]
    evaluated = [one["epoch"] for one in history(run.folder)["evaluations"]]
    assert evaluated == [0, 1, 3, 4]


def test_a_code_of_other_weights_is_never_saved(stored):
    latest = load_encoder(stored / "latest_model.pth")
    last = load_encoder(stored / "checkpoint_epoch_002.pth")
    for name, array in last.code.arrays().items():
        assert np.array_equal(array, latest.code.arrays()[name])


def test_what_the_same_bytes_hold_as_int8_is_said(stored):
    rows = open_vectors(limit=ROWS).rows
    train, held_out = (rows[index] for index in split_rows(ROWS, 0.1, 0))
    pca = PCA.fit(train, BYTES)
    step = np.abs(pca.encode_renormalised(train)).max(axis=0) / 127
    latents = np.rint(pca.encode_renormalised(held_out) / step).clip(-127, 127) * step
    queries = pca.encode_renormalised(held_out).astype(np.float64)
    distances = ((queries[:, None] - latents) ** 2).sum(axis=-1)
    assert history(stored)["pca_int8_recall"] == pytest.approx(by_a_plain_loop(held_out, distances, 5), abs=1e-9)


def test_what_the_same_bytes_hold_by_pq_is_said(stored):
    rows = open_vectors(limit=ROWS).rows
    train, held_out = (rows[index] for index in split_rows(ROWS, 0.1, 0))
    pca = PCA.fit(train, 256)
    code = ProductCode.fit(pca.encode_renormalised(train), BYTES)
    latents = pca.encode_renormalised(held_out)
    scores = code.score(latents, code.encode(latents))
    assert history(stored)["pca_pq_recall"] == pytest.approx(by_a_plain_loop(held_out, scores, 5), abs=1e-9)


@pytest.mark.parametrize("settings", [{"code": "pq"}, {"code": "float16", "bytes": 32, "latent_dim": 16}])
def test_pq_is_no_baseline_of_itself_or_of_bytes_that_it_cannot_have(tmp_path, settings):
    files = {"checkpoints_dir": str(tmp_path), "limit": ROWS, "epochs": 0, "quiet": True}
    baselines = new_experiment(TrainConfig(**{"bytes": BYTES, **files, **settings})).history.baselines()
    assert list(baselines) == ["PCA, int8"]


def test_the_baselines_are_printed_drawn_and_compared(stored, call):
    found = history(stored)
    recalls = {
        name: f"{found[key]:.4f}" for name, key in (("PCA, int8", "pca_int8_recall"), ("PCA, pq", "pca_pq_recall"))
    }
    experiment = open_experiment(stored)
    (*_, panel) = quick_figure(experiment, recorded_recall(experiment)).axes
    assert [text.get_text() for text in panel.get_legend().get_texts()][-2:] == [
        f"{name} {recall}" for name, recall in recalls.items()
    ]
    flags = ("--checkpoints-dir", stored.parent, "--compare", "--experiments", stored, stored)
    (record, *_) = json.loads(call("visualize_training.py", *flags, "--json").stdout)
    assert record["pca_pq_recall"] == found["pca_pq_recall"]
    assert "PCA, pq" in call("visualize_training.py", *flags).stdout


def test_the_start_alone_takes_no_training(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = call("train.py", "--bytes", BYTES, "--limit", ROWS, "--epochs", 0)
    assert done.returncode == 0, done.stderr
    assert "held-out recall@5" in done.stdout and "; PCA, int8 0." in done.stdout and "; PCA, pq 0." in done.stdout
    assert "\nPCA, pq     held-out recall@5 0." in done.stderr
    (checkpoint,) = tmp_path.glob("checkpoints/*/best.pt")
    content = torch.load(checkpoint, weights_only=True)
    assert (content["code"]["name"], content["code"]["bytes"]) == ("trellis", BYTES)


def test_a_stopped_training_resumes_to_the_same_code(stored, tmp_path):
    steps = iter(range(100))
    config = TrainConfig(
        bytes=BYTES, limit=ROWS, epochs=2, save_interval=1, batch_size=128, checkpoints_dir=str(tmp_path), quiet=True
    )
    whole = new_experiment(config)
    whole.run()
    halved = new_experiment(config)
    assert halved.run(lambda: next(steps) >= 3).status == "interrupted"
    assert load_encoder(halved.folder / "latest_model.pth").code is not None
    again = resumed_experiment(str(halved.folder), {"checkpoints_dir": str(tmp_path), "quiet": True})
    again.run()
    one, other = (load_encoder(run.folder / "latest_model.pth").code.arrays() for run in (whole, again))
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_the_fewest_bytes_that_reach_a_target_are_found(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = call("train.py", "--limit", ROWS, "--target-recall", 0.6, "--bytes", "--epochs", 0, "--latent-dim", 64)
    assert done.returncode == 0, done.stderr
    curve = {
        int(line.split()[0]): float(line.split()[1])
        for line in done.stdout[: done.stdout.index("completed")].splitlines()[2:]
    }
    assert done.stdout.startswith("held-out recall on 40 rows, target 0.6\nbytes a vector  recall@5\n")
    (folder,) = tmp_path.glob("checkpoints/[!.]*")
    found = json.loads((folder / "config.json").read_text())["bytes"]
    assert curve[found] >= 0.6 > curve[found - 1]
    assert history(folder)["recall_history"] == [pytest.approx(curve[found], abs=1e-4)]


def test_test_py_scores_the_stored_form(stored, call):
    last = stored / "checkpoint_epoch_002.pth"
    report = json.loads(call("test.py", "--checkpoint", last, "--k", 5, "--json").stdout)["stored"]
    assert list(report) == ["encoder", "start"]
    recalls = history(stored)["recall_history"]
    assert [one["recall"]["5"] for one in report.values()] == pytest.approx([recalls[2], recalls[0]])
    for scores in report.values():
        assert scores["bytes_per_vector"] == BYTES
        low, high = scores["interval"]["5"]
        assert low < scores["recall"]["5"] < high
        assert scores["reranked"]["2"]["5"] >= scores["recall"]["5"]
        assert 0 < scores["symmetric"]["5"] <= 1 and 0 < scores["tail"]["5"] <= 1
    text = call("test.py", "--checkpoint", last, "--k", 5).stdout
    assert "float queries" in text and "coded queries" in text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--bytes", 1], "--bytes must be at least 2"),
        (["--bytes", 66, "--latent-dim", 64], "--bytes 66: 64 dimensions hold 1 to 512 bits, not 520"),
        (["--bytes", 8, "--images", "builtin"], "--bytes stores vectors"),
        (["--bytes", 8, "--matryoshka"], "--bytes stores vectors"),
        (["--bytes", 8, "--target-recall", 0.9], "give --bytes without a number"),
        (["--bytes"], "--bytes needs a number"),
        (["--rerank", 5], "--rerank goes with --target-recall and --bytes"),
        (["--bytes", "--target-recall", 0.9, "--rerank", 0], "--rerank must be at least 1"),
        (["--bytes", "--target-recall", 1], "--target-recall must be above 0 and below 1"),
        (["--bytes", "--target-recall", 0.9, "--rerank", 9], "--val-fraction holds out 40 rows"),
        (["--bytes", "--target-recall", 0.99999, "--val-fraction", 0], "leave --val-fraction 0 out"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(call, tmp_path, monkeypatch, flags, message):
    monkeypatch.chdir(tmp_path)
    done = call("train.py", "--limit", ROWS, *flags)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
    assert not list(tmp_path.glob("checkpoints/[!.]*"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda code: code.update(name="trelis"),
        lambda code: code.update(bytes=BYTES + 1),
        lambda code: code.update(arrays=[]),
        lambda code: code["arrays"].pop("mean"),
        lambda code: code["arrays"].update(mean="text"),
        lambda code: code["arrays"].update(mean=code["arrays"]["mean"][1:]),
        lambda code: code["arrays"]["deviations"].fill_(torch.nan),
        lambda code: code["arrays"]["bits"].zero_(),
        lambda code: code["arrays"].update(scale=torch.tensor(0.0, dtype=torch.float64)),
        lambda code: code["arrays"].update(limits=torch.tensor([2.0, 1.0], dtype=torch.float64)),
    ],
)
def test_a_damaged_code_is_refused(stored, tmp_path, damage):
    content = torch.load(stored / "best.pt", weights_only=True)
    damage(content["code"])
    torch.save(content, tmp_path / "damaged.pth")
    with pytest.raises(InputError, match="do not fit the config"):
        load_encoder(tmp_path / "damaged.pth")
