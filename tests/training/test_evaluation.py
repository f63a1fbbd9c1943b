import dataclasses
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import assets
from no_network import no_weights
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dploss.config import TrainConfig
from dploss.data.images import open_images
from dploss.errors import InputError
from dploss.models.build import load_encoder
from dploss.training.launch import new_experiment, resumed_experiment
from dploss.training.reconstruction import choose_samples
from metrics.resampling import jackknife_error

SMALL = {
    "images": "builtin",
    "image_size": 16,
    "limit": 120,
    "latent_dim": 8,
    "batch_size": 32,
    "epochs": 6,
    "save_interval": 1,
    "num_evaluation_samples": 3,
    "quiet": True,
    "seed": 3,
}


@pytest.fixture
def settings(tmp_path, monkeypatch):
    no_weights(monkeypatch, tmp_path)
    return {**SMALL, "checkpoints_dir": str(tmp_path / "checkpoints")}


def checkpoint_names(folder):
    return sorted(path.name for path in folder.glob("checkpoint_epoch_*"))


def test_a_training_on_images_leaves_what_it_made(settings, capsys):
    run = new_experiment(TrainConfig(**settings, metric_name="psnr"))
    history = run.run()
    folder = run.folder
    assert [(one.epoch, one.step) for one in history.evaluations] == [(0, 0), (2, 6), (4, 12), (6, 18)]
    state = json.loads((folder / "best_checkpoints.json").read_text())
    assert len(state["checkpoints"]) == 3 and state["metric_name"] == "psnr"
    best = max(history.evaluations, key=lambda one: one.metrics["psnr"])
    assert (folder / "best.pt").resolve().name == f"checkpoint_epoch_{best.epoch:03d}.pth"
    assert history.evaluations[0].is_best is True
    metrics = history.evaluations[-1].metrics
    assert {"psnr", "ssim", "recall", "total_loss", "left_out"} <= metrics.keys() and "fid" not in metrics

    samples = sorted(path.name for path in (folder / "evaluation_samples").iterdir())
    assert samples == sorted(
        f"eval_{name}_{number:03d}.{suffix}"
        for number in range(3)
        for name, suffix in (("generated", "jpg"), ("comparison", "jpg"), ("prompt", "txt"))
    )
    assert Image.open(folder / "evaluation_samples" / "eval_comparison_000.jpg").size == (2 * 256 + 4, 256 + 24)
    assert "photograph" in (folder / "evaluation_samples" / "eval_prompt_000.txt").read_text()

    encoder = load_encoder(folder / "best.pt")
    rows = open_images(image_size=16, limit=120).rows
    assert encoder.encode(rows).shape == (120, 8)


def test_tensorboard_reads_what_was_logged(settings):
    run = new_experiment(TrainConfig(**settings, metric_name="psnr"))
    history = run.run()
    events = EventAccumulator(str(run.folder / "tensorboard_logs"), size_guidance={"images": 0})
    events.Reload()
    tags = events.Tags()
    assert {"Loss/Total", "Loss/Rank", "Loss/Pair_Distance", "Learning_Rate", "Recall/At_5"} <= set(tags["scalars"])
    assert {"Evaluation/PSNR", "Evaluation/SSIM", "Evaluation/IsBest"} <= set(tags["scalars"])
    assert tags["images"] == ["Samples/000", "Samples/001", "Samples/002"]
    losses = events.Scalars("Loss/Total")
    assert [one.step for one in losses] == [3, 6, 9, 12, 15, 18]
    assert [one.value for one in losses] == pytest.approx(history.total_loss)
    assert [one.value for one in events.Scalars("Evaluation/IsBest")] == [one.is_best for one in history.evaluations]


def test_without_weights_held_out_recall_is_followed_and_said(settings, capsys):
    run = new_experiment(TrainConfig(**settings))
    said = capsys.readouterr().err
    assert "warning: composite_score cannot be measured (none of its parts has a value): recall is tracked" in said
    assert not Path(settings["checkpoints_dir"]).exists()
    run.run()
    assert run.metric_name == "recall"


def test_with_weights_the_composite_is_followed(settings):
    weights = assets() / "weights" / "alexnet_features.pth"
    config = TrainConfig(**{**settings, "image_size": 32, "epochs": 2}, lpips_weights=str(weights), eval_every=1)
    run = new_experiment(config)
    history = run.run()
    metrics = history.evaluations[-1].metrics
    assert metrics["composite_parts"] == ["lpips"]
    assert metrics["composite_score"] == pytest.approx(-0.2 * metrics["lpips"])
    assert metrics["weights"]["lpips"]["source"] == str(weights)
    assert run.metric_name == "composite_score"


def test_evaluation_changes_nothing_of_the_training(settings):
    def losses(**more):
        torch.manual_seed(0)
        np.random.seed(0)
        random.seed(0)
        history = new_experiment(TrainConfig(**settings, **more)).run()
        return history.total_loss, history.recall_history

    assert losses(eval_every=0) == losses(eval_every=1, metric_name="ssim")


def test_turned_off_nothing_is_judged_or_logged(settings):
    run = new_experiment(TrainConfig(**settings, eval_every=0, no_tensorboard=True))
    history = run.run()
    assert history.evaluations == []
    names = {path.name for path in run.folder.iterdir()}
    assert not names & {"best.pt", "best_checkpoints.json", "evaluation_samples", "tensorboard_logs"}


@pytest.mark.parametrize(("prune", "kept"), [(True, [0, 1, 2, 3, 5, 6]), (False, [0, 1, 2, 3, 4, 5, 6])])
def test_pruning_keeps_the_best_the_latest_and_what_was_not_judged(settings, prune, kept):
    run = new_experiment(TrainConfig(**settings, metric_name="total_loss", save_top_k=1, prune=prune))
    history = run.run()
    evaluated = {one.epoch: one.metrics["total_loss"] for one in history.evaluations}
    best = min(evaluated, key=evaluated.get)
    wanted = kept if not prune else sorted({0, 1, 3, 5, 6, best})
    assert checkpoint_names(run.folder) == [f"checkpoint_epoch_{epoch:03d}.pth" for epoch in wanted]


def test_stopped_and_resumed_it_ends_the_same(settings):
    config = TrainConfig(**settings, metric_name="psnr")
    whole = new_experiment(config).run()
    stopped = new_experiment(config)
    steps = iter(range(10))
    stopped.run(lambda: next(steps, None) is None)
    resumed = resumed_experiment(str(stopped.folder), {"quiet": True})
    history = resumed.run()
    assert history.total_loss == whole.total_loss and history.evaluations == whole.evaluations
    state = json.loads((stopped.folder / "best_checkpoints.json").read_text())
    assert [one["score"] for one in state["checkpoints"]] == sorted(
        (one.metrics["psnr"] for one in whole.evaluations), reverse=True
    )[: config.save_top_k]


def test_vectors_are_judged_by_recall_at_every_checkpoint(tmp_path):
    config = TrainConfig(
        limit=300, latent_dim=16, hidden_dims=(), epochs=4, save_interval=2, quiet=True, checkpoints_dir=str(tmp_path)
    )
    run = new_experiment(config)
    history = run.run()
    assert [one.metrics["recall"] for one in history.evaluations] == history.recall_history
    assert (run.folder / "best.pt").exists() and len(checkpoint_names(run.folder)) == 3
    results = json.loads((run.folder / "best_checkpoint_results.json").read_text())
    assert results["metric_name"] == "recall"
    # For figures alone: what ranks the checkpoints is as without it.
    assert all(0 < one.metrics["recall_se"] < 0.1 for one in history.evaluations)
    assert "recall_se" not in (run.folder / "best_checkpoints.json").read_text()


@pytest.mark.parametrize("more", [{}, {"matryoshka_dims": (8, 16)}, {"bytes": 16, "code": "int8"}])
def test_a_new_best_must_exceed_the_noise_of_recall(tmp_path, more):
    settings = {"limit": 300, "latent_dim": 16, "hidden_dims": (), "save_interval": 1, "quiet": True, "save_top_k": 9}
    config = TrainConfig(**settings, **more, epochs=4, min_delta="auto", checkpoints_dir=str(tmp_path))
    run = new_experiment(config)
    history = run.run()
    state = json.loads((run.folder / "best_checkpoints.json").read_text())
    best = history.evaluations[0]
    measured = {one["epoch"]: one["metrics"] for one in state["checkpoints"]}
    for evaluation in history.evaluations[1:]:
        without = [np.array(measured[one.epoch]["jackknife"]["recall"]) for one in (best, evaluation)]
        difference = evaluation.metrics["recall"] - best.metrics["recall"]
        exceeds = difference > jackknife_error(without[1] - without[0])
        exceeds = exceeds or difference == 0 == jackknife_error(without[1] - without[0])
        assert evaluation.is_best is exceeds
        best = evaluation if exceeds else best
    assert state["min_delta"] == "auto" and state["checkpoints"][0]["epoch"] == best.epoch
    # The history, and what is drawn of it, is as without a band.
    assert all("jackknife" not in one.metrics for one in history.evaluations)
    for metrics in measured.values():
        assert np.mean(metrics["jackknife"]["recall"]) == pytest.approx(metrics["recall"], abs=0.02)


def test_a_band_where_a_loss_is_tracked_is_said_to_be_none(tmp_path, caplog):
    config = TrainConfig(limit=60, latent_dim=8, hidden_dims=(), epochs=2, save_interval=1, metric_name="total_loss")
    config = dataclasses.replace(config, min_delta="auto", quiet=True, checkpoints_dir=str(tmp_path))
    new_experiment(config).run()
    assert caplog.text.count("total_loss_se was not measured: compared without a noise band") == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"metric_name": "clip_score"}, "metric_name must be one of recall, total_loss, rank_loss, pairdist_loss"),
        ({"images": "builtin", "metric_name": "speed"}, "composite_score, clip_score, lpips"),
        ({"images": "builtin", "lpips_weights": "gone.pth", "image_size": 32, "limit": 60}, "gone.pth"),
        ({"images": "gone"}, "gone: no such folder of images"),
    ],
)
def test_what_cannot_be_tracked_is_said_before_anything_is_written(tmp_path, more, message):
    with pytest.raises(InputError, match=message):
        new_experiment(TrainConfig(**{"limit": 60, "checkpoints_dir": str(tmp_path / "checkpoints"), **more}))
    assert not (tmp_path / "checkpoints").exists()


def test_without_held_out_rows_the_total_loss_is_followed(tmp_path, capsys):
    config = TrainConfig(limit=100, latent_dim=8, val_fraction=0.0, epochs=1, checkpoints_dir=str(tmp_path))
    run = new_experiment(config)
    run.run()
    assert "recall cannot be measured: total_loss is tracked instead" in capsys.readouterr().err
    assert run.metric_name == "total_loss"


def test_samples_are_spread_over_the_held_out_images():
    images = open_images(image_size=16, limit=100)
    chosen = choose_samples(images, np.arange(50, 100), 5)
    np.testing.assert_array_equal(chosen.rows, images.rows[[50, 62, 74, 86, 99]])
    assert len(chosen.captions) == 5
