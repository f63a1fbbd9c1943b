import json
import math
import os
from dataclasses import replace

import numpy as np
import pytest
from no_network import no_weights

from dploss.config import TrainConfig
from dploss.data import open_vectors, split_rows
from dploss.errors import InputError
from dploss.evaluation import held_out
from dploss.evaluation.recall import RecallEvaluator
from dploss.evaluation.recall_history import measured_recall, recorded_recall, with_measured
from dploss.experiments.catalog import list_experiments
from dploss.experiments.recalls import MeasuredRecall, Recall
from dploss.models.build import load_encoder
from dploss.training.launch import new_experiment


@pytest.fixture
def experiment(checkpoints):
    return list_experiments(checkpoints)[0][0]


@pytest.fixture
def counted(monkeypatch):
    """How many recalls are computed."""
    calls = []
    plain = held_out.neighbours_kept
    monkeypatch.setattr(held_out, "neighbours_kept", lambda *args: calls.append(1) or plain(*args))
    return calls


def test_the_latest_model_is_measured_on_the_held_out_rows(experiment):
    (measured,) = measured_recall(experiment)
    rows = open_vectors(limit=400).rows[split_rows(400, 0.1, 0)[1]]
    latents = load_encoder(experiment.folder / "latest_model.pth").encode(rows)
    assert measured == MeasuredRecall(4, RecallEvaluator(5).evaluate(rows, latents))


def test_every_checkpoint_gives_what_the_training_measured(experiment, counted):
    seen = []
    measured = measured_recall(experiment, every_checkpoint=True, progress=lambda paths: seen.extend(paths) or paths)
    recorded = recorded_recall(experiment)
    assert [replace(one, others=()) for one in measured] == recorded
    assert [one.recall.standard_error for one in measured] == [one.recall.standard_error for one in recorded]
    names = [f"checkpoint_epoch_{epoch:03d}.pth" for epoch in (0, 2, 4)]
    assert [path.name for path in seen] == [*names, "latest_model.pth"]
    # At its k, and at all others in a second search.
    assert len(counted) == 8


def test_every_checkpoint_is_measured_at_other_k_too(experiment, counted):
    measured = measured_recall(experiment, every_checkpoint=True)
    rows = open_vectors(limit=400).rows[split_rows(400, 0.1, 0)[1]]
    for one in measured:
        latents = load_encoder(experiment.folder / f"checkpoint_epoch_{one.epoch:03d}.pth").encode(rows)
        # 50 of 40 rows cannot be found.
        assert one.others == tuple(RecallEvaluator(k).evaluate(rows, latents) for k in (1, 10))
    before = len(counted)
    assert measured_recall(experiment, every_checkpoint=True) == measured and len(counted) == before
    assert measured_recall(experiment) == [replace(measured[-1], others=())] and len(counted) == before


def test_what_was_measured_at_one_k_is_measured_at_the_others_when_they_are_wanted(experiment):
    (latest,) = measured_recall(experiment)
    assert latest.others == ()
    assert [other.k for other in measured_recall(experiment, every_checkpoint=True)[-1].others] == [1, 10]


@pytest.mark.parametrize("damage", [{"value": 2.0}, {"error": -1.0}, {"k": True}, {"rows": "40"}, {"new": 1}])
def test_a_damaged_recall_is_measured_anew(experiment, damage, counted):
    first = measured_recall(experiment)
    path = experiment.folder / "recall.json"
    content = json.loads(path.read_text())
    content["latest_model.pth"]["recall"] |= damage
    path.write_text(json.dumps(content))
    assert measured_recall(experiment) == first and len(counted) == 2


def test_images_are_measured_as_the_training_did(tmp_path, monkeypatch):
    no_weights(monkeypatch, tmp_path)
    small = {"image_size": 16, "limit": 60, "latent_dim": 8, "batch_size": 32, "epochs": 1, "eval_every": 0}
    folder = tmp_path / "checkpoints"
    new_experiment(
        TrainConfig(images="builtin", val_fraction=0.2, checkpoints_dir=str(folder), quiet=True, **small)
    ).run()
    ((run,), _) = list_experiments(folder)
    measured = measured_recall(run, every_checkpoint=True)
    assert [replace(one, others=()) for one in measured] == recorded_recall(run)
    assert [other.k for other in measured[-1].others] == [1, 10]


def test_it_is_measured_again_only_when_the_file_changed(experiment, counted):
    first = measured_recall(experiment)
    assert measured_recall(experiment) == first and len(counted) == 1
    latest = experiment.folder / "latest_model.pth"
    os.utime(latest, ns=(1, 1))
    assert measured_recall(experiment) == first and len(counted) == 2
    os.replace(experiment.folder / "checkpoint_epoch_002.pth", latest)
    assert measured_recall(experiment)[0].epoch == 2 and len(counted) == 3


@pytest.mark.parametrize("content", ["", "[]", '{"latest_model.pth": 3}', "{", "[" * 100_000])
def test_a_damaged_cache_is_made_anew(experiment, content, counted):
    first = measured_recall(experiment)
    (experiment.folder / "recall.json").write_text(content)
    assert measured_recall(experiment) == first and len(counted) == 2
    assert list(json.loads((experiment.folder / "recall.json").read_text())) == ["latest_model.pth"]


def test_what_was_measured_outlives_the_data(experiment):
    first = measured_recall(experiment)
    experiment.config["data"]["path"] = "/gone.npy"
    assert measured_recall(experiment) == first
    with pytest.raises(InputError, match=r"/gone\.npy: no such file"):
        measured_recall(experiment, every_checkpoint=True)


def test_changed_data_is_said(experiment, tmp_path):
    np.save(tmp_path / "other.npy", np.random.default_rng(0).normal(size=(400, 768)).astype(np.float32))
    experiment.config["data"]["path"] = str(tmp_path / "other.npy")
    experiment.config["limit"] = None
    with pytest.raises(InputError, match="the data differs from what experiment"):
        measured_recall(experiment)


def test_without_held_out_rows_or_checkpoint_there_is_nothing_to_measure(experiment):
    experiment.config["val_fraction"] = 0.0
    with pytest.raises(InputError, match="held out no rows"):
        measured_recall(experiment)
    for path in experiment.folder.glob("*.pth"):
        path.unlink()
    with pytest.raises(InputError, match=r"no latest_model\.pth in it"):
        measured_recall(experiment)


def test_a_broken_checkpoint_is_named_and_the_others_are_measured(experiment):
    (experiment.folder / "checkpoint_epoch_002.pth").write_bytes(b"broken")
    said = []
    assert [one.epoch for one in measured_recall(experiment, True, said.append)] == [0, 4]
    assert len(said) == 1 and "checkpoint_epoch_002.pth: not a readable checkpoint" in said[0]
    for path in experiment.folder.glob("*.pth"):
        path.write_bytes(b"broken")
    with pytest.raises(InputError, match="no checkpoint in it can be read"):
        measured_recall(experiment)


def test_where_it_cannot_be_kept_it_is_measured_all_the_same(experiment, monkeypatch):
    def full(*args):
        raise OSError("no space left")

    monkeypatch.setattr("dploss.evaluation.recall_history.write_json", full)
    said = []
    assert measured_recall(experiment, warn=said.append)
    assert said == ["the recalls are not kept for the next time: no space left"]


def test_what_is_measured_takes_the_place_of_what_was_recorded():
    recorded = [MeasuredRecall(epoch, Recall(epoch / 10, 5, 40)) for epoch in (2, 4, 6, 8)]
    # The checkpoint of epoch 2 is gone, epochs after the latest were trained again.
    measured = [MeasuredRecall(epoch, Recall(0.9, 5, 40), (Recall(0.5, 1, 40),)) for epoch in (4, 6)]
    assert with_measured(recorded, measured) == [recorded[0], *measured]
    other_rows = [MeasuredRecall(6, Recall(0.9, 5, 30))]
    assert with_measured(recorded, other_rows) == other_rows


@pytest.mark.parametrize("error", [-0.1, 1.5, math.nan, math.inf, "0.1", None])
def test_an_error_that_none_can_be_is_not_known(experiment, error):
    for one in experiment.history.evaluations:
        one.metrics["recall_se"] = error
    assert [one.recall.standard_error for one in recorded_recall(experiment)] == [None] * 3


def test_a_matryoshka_encoder_has_no_error_of_its_whole_latents(tmp_path):
    small = {"limit": 300, "latent_dim": 16, "hidden_dims": (), "epochs": 1, "quiet": True}
    for more in ({}, {"matryoshka_dims": (4, 8)}):
        new_experiment(TrainConfig(**small, **more, checkpoints_dir=str(tmp_path))).run()
    plain, nested = sorted(list_experiments(tmp_path)[0], key=lambda one: len(one.config["matryoshka_dims"]))
    assert [one.recall.standard_error for one in recorded_recall(nested)] == [None, None]
    assert all(0 < one.recall.standard_error < 0.1 for one in recorded_recall(plain))
