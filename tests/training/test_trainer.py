import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dploss.config import TrainConfig
from dploss.data import open_vectors, split_rows
from dploss.data.batches import epoch_batches
from dploss.errors import InputError, TrainingError
from dploss.evaluation.recall import RecallEvaluator
from dploss.experiments.checkpoints import load_checkpoint
from dploss.losses.distance_preserving import LOSSES
from dploss.models.build import load_encoder
from dploss.models.device import pick_device
from dploss.models.pca import PCA
from dploss.training.launch import new_experiment, resumed_experiment
from dploss.training.progress import summary
from dploss.training.trainer import lr_factor

TIMES = ("epoch_times", "epoch_timestamps", "cumulative_time")


@pytest.fixture
def config(tmp_path) -> TrainConfig:
    """Six epochs of four steps."""
    return TrainConfig(
        limit=300,
        latent_dim=16,
        hidden_dims=(24,),
        epochs=6,
        batch_size=64,
        save_interval=4,
        checkpoints_dir=str(tmp_path / "checkpoints"),
        quiet=True,
    )


def stop_after(steps: int):
    """A should_stop that lets `steps` steps pass."""
    asked = iter(range(steps))
    return lambda: next(asked, None) is None


def measured(history) -> dict:
    """A history without what the clock decides."""
    return {key: value for key, value in history.as_dict().items() if key not in TIMES}


def assert_same_weights(first: Path, second: Path) -> None:
    first, second = load_checkpoint(first), load_checkpoint(second)
    for name, weight in first["model_state_dict"].items():
        assert torch.equal(weight, second["model_state_dict"][name]), name


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_falls_and_recall_rises_above_pca(config, name):
    # In fewer epochs hard ranks gain one neighbour of 2,000, which rounding may lose.
    config = replace(config, loss_function=name, epochs=6, limit=4000, batch_size=64, latent_dim=64)
    history = new_experiment(config).run()
    assert np.isfinite(history.total_loss).all()
    assert history.total_loss[0] > history.total_loss[-1]
    assert history.recall_history[-1] > history.pca_renormalised_recall > history.pca_recall


@pytest.mark.parametrize(("name", "sibling"), [("DPLossV1", "DPLossV1Norm"), ("DPLossV2", "DPLossV2Norm")])
def test_ranks_of_any_scale_train_alike(config, name, sibling):
    """And are reported as defined: the rank term of V1 is (B - 2) times its sibling's, that of V2 (B - 2)^2 times."""
    histories, weights = [], []
    for loss in (name, sibling):
        run = new_experiment(replace(config, loss_function=loss, tau=1.5))
        histories.append(run.run())
        weights.append(list(run.trainer.encoder.parameters()))
    assert all(map(torch.equal, *weights))
    unscaled, scaled = histories
    factor = (config.batch_size - 2) ** int(name[-1])
    np.testing.assert_allclose(unscaled.rank_loss, factor * np.array(scaled.rank_loss), rtol=1e-5)
    assert unscaled.pairdist_loss == scaled.pairdist_loss
    total = np.array(unscaled.rank_loss) + config.lambda_pairdist * np.array(unscaled.pairdist_loss)
    np.testing.assert_allclose(unscaled.total_loss, total, rtol=1e-5)


def test_the_start_is_the_first_checkpoint(config):
    run = new_experiment(replace(config, save_interval=1, metric_name="recall"))
    start = run.encoder.state_dict()
    start = {name: one.clone() for name, one in start.items()}
    history = run.run()
    saved = load_checkpoint(run.folder / "checkpoint_epoch_000.pth")
    assert (saved["epoch"], saved["step"]) == (0, 0)
    assert all(torch.equal(saved["model_state_dict"][name], one) for name, one in start.items())
    assert history.recall_epochs == [0, 1, 2, 3, 4, 5, 6] and history.start_recall == history.recall_history[0]
    assert history.evaluations[0].epoch == 0
    metrics = dict(history.evaluations[0].metrics)
    assert 0 < metrics.pop("recall_se") < 0.2 and metrics == {"recall": history.start_recall}


def test_a_training_that_gains_nothing_keeps_its_start(config, tmp_path):
    """PCA to as many dimensions as rows of that rank span loses nothing."""
    random = np.random.default_rng(0)
    np.save(tmp_path / "rank_16.npy", (random.normal(size=(300, 16)) @ random.normal(size=(16, 64))).astype(np.float32))
    run = new_experiment(replace(config, data=str(tmp_path / "rank_16.npy"), lr=3.0))
    history = run.run()
    assert history.start_recall == 1 and max(history.recall_history[1:]) < 1
    assert load_checkpoint(run.folder / "best.pt")["epoch"] == 0
    lines = summary(history, run.folder).splitlines()
    assert lines[1] == "best.pt, epoch 0: held-out recall@5 1.0000 on 30 rows"
    assert lines[2].startswith("  last epoch 0.")
    assert lines[3] == "training gained nothing over its start, and best.pt is that start"


def test_no_epochs_leave_the_start(config):
    run = new_experiment(replace(config, epochs=0))
    history = run.run()
    assert history.status == "completed" and history.epochs == [] and history.recall_epochs == [0]
    assert {load_checkpoint(run.folder / name)["epoch"] for name in ("best.pt", "latest_model.pth")} == {0}
    rows = open_vectors(limit=300).rows
    pca = PCA.fit(rows[run.trainer.train_index], config.latent_dim)
    latents, renormalised = load_encoder(run.folder / "best.pt").encode(rows), pca.encode_renormalised(rows)
    lengths, expected = (np.linalg.norm(one, axis=1, keepdims=True) for one in (latents, renormalised))
    np.testing.assert_allclose(latents / lengths, renormalised / expected, atol=1e-5)
    assert lengths.mean() == pytest.approx(expected.mean(), rel=0.01)


def test_it_leaves_the_files_people_know(config):
    run = new_experiment(config)
    history = run.run()
    names = [
        ".lock",
        "best.pt",
        "best_checkpoint_results.json",
        "best_checkpoints.json",
        "checkpoint_epoch_000.pth",
        "checkpoint_epoch_004.pth",
        "checkpoint_epoch_006.pth",
        "config.json",
        "latest_model.pth",
        "tensorboard_logs",
        "train_history.json",
    ]
    assert sorted(path.name for path in run.folder.iterdir()) == names
    assert json.loads((run.folder / "train_history.json").read_text()) == history.as_dict()
    assert history.status == "completed" and history.epochs == [1, 2, 3, 4, 5, 6]
    assert history.recall_epochs == [0, 4, 6] and history.recall_rows == 30
    assert history.learning_rate == pytest.approx([0.001 * lr_factor(step, 24) for step in (3, 7, 11, 15, 19, 23)])
    assert history.learning_rate[-1] > 0

    latest = load_checkpoint(run.folder / "latest_model.pth")
    assert (latest["epoch"], latest["step"]) == (6, 24)
    assert latest["train_history"] == history.as_dict()
    written = json.loads((run.folder / "config.json").read_text())
    assert latest["config"] == written
    assert written["data"]["path"] == "builtin" and written["data"]["rows"] == 300
    assert written["data"]["fingerprint"].startswith("sha256:")
    assert written["split"] == {"train_rows": 270, "held_out_rows": 30}
    assert (written["input_dim"], written["latent_dim"], written["hidden_dims"]) == (768, 16, [24])
    assert written["experiment_id"] == run.manager.experiment_id and written["versions"]["torch"]


def test_the_reported_recall_can_be_measured_again_from_the_files(config):
    run = new_experiment(config)
    history = run.run()
    rows = open_vectors(limit=300).rows
    held_out = rows[split_rows(300, config.val_fraction, config.seed)[1]]
    encoder = load_encoder(run.folder / "latest_model.pth")
    assert RecallEvaluator(config.k).evaluate(held_out, encoder.encode(held_out)).value == history.recall_history[-1]


def test_recall_starts_at_that_of_pca(config):
    run = new_experiment(replace(config, hidden_dims=()))
    assert run.held_out.recall(run.encoder).value == run.history.pca_recall
    run = new_experiment(replace(config, init="random"))
    assert run.held_out.recall(run.encoder).value < run.history.pca_recall


def test_weights_do_not_depend_on_held_out_rows(config, tmp_path):
    rows = np.array(open_vectors(limit=300).rows)
    np.save(tmp_path / "rows.npy", rows)
    rows[split_rows(300, config.val_fraction, config.seed)[1]] = np.random.default_rng(0).normal(size=(30, 768))
    np.save(tmp_path / "noised.npy", rows)
    folders = []
    for name in ("rows.npy", "noised.npy"):
        run = new_experiment(replace(config, data=str(tmp_path / name), save_interval=1))
        run.run()
        folders.append(run.folder)
    for epoch in range(1, config.epochs + 1):
        name = f"checkpoint_epoch_{epoch:03d}.pth"
        assert_same_weights(folders[0] / name, folders[1] / name)


def test_vectors_in_other_units_are_trained_alike(config, tmp_path):
    rows = open_vectors(limit=300).rows
    histories = []
    for number, unit in enumerate((1, 64)):
        np.save(tmp_path / f"{number}.npy", unit * rows)
        histories.append(new_experiment(replace(config, data=str(tmp_path / f"{number}.npy"))).run())
    first, second = (np.array([one.total_loss, one.rank_loss, one.pairdist_loss]) for one in histories)
    np.testing.assert_allclose(first, second, rtol=1e-3)


def test_a_matryoshka_checkpoint_is_ranked_by_the_mean_over_its_sizes(config):
    run = new_experiment(replace(config, matryoshka_dims=(4, 8), latent_dim=16, save_interval=1, save_top_k=7))
    history = run.run()
    means = np.mean([history.recall_by_dim[dim] for dim in ("4", "8", "16")], axis=0)
    np.testing.assert_allclose([one.metrics["recall"] for one in history.evaluations], means)
    best = load_checkpoint(run.folder / "best.pt")["epoch"]
    assert means[best] == max(means)
    # Its loss restores shares of the norm itself, and no one step fits all sizes.
    assert run.trainer.encoder.training_share == 1
    (group,) = run.trainer.optimizer.param_groups
    assert (group["initial_lr"], group["weight_decay"]) == (config.lr, 0)


def test_steps_fit_what_pca_loses_and_how_many_there_are(config):
    def step(**settings):
        (group,) = new_experiment(replace(config, **settings)).trainer.optimizer.param_groups
        return group["initial_lr"], group["weight_decay"]

    few, decay = step()
    more, _ = step(epochs=12)
    assert more == pytest.approx(4 * few) and decay > 0
    assert step(lr=0.002)[0] == pytest.approx(2 * few)
    # More dimensions lose less, and have fewer rows each.
    finer, less_decay = step(latent_dim=128)
    assert finer < few / 8 and less_decay < decay
    assert step(init="random") == (config.lr, 0)


def test_a_matryoshka_encoder_is_measured_at_each_size(config):
    run = new_experiment(replace(config, matryoshka_dims=(4, 8), latent_dim=16))
    history = run.run()
    held_out = run.held_out.rows[run.held_out.index]
    assert list(history.recall_by_dim) == list(history.pca_recall_by_dim) == ["4", "8", "16"]
    assert history.recall_by_dim["16"] == history.recall_history
    assert history.pca_recall_by_dim["16"] == history.pca_recall
    for dim, recalls in history.recall_by_dim.items():
        short = run.encoder.encode(held_out, dim=int(dim))
        assert recalls[-1] == RecallEvaluator(config.k).evaluate(held_out, short).value


@pytest.mark.parametrize(("steps", "dims"), [(0, ()), (1, ()), (4, ()), (7, ()), (16, ()), (23, ()), (7, (4, 8))])
def test_a_stopped_training_goes_on_as_if_it_had_not_stopped(config, steps, dims):
    config = replace(config, matryoshka_dims=dims)
    whole = new_experiment(config)
    expected = whole.run()

    stopped = new_experiment(config)
    assert stopped.run(stop_after(steps)).status == "interrupted"
    assert load_checkpoint(stopped.folder / "latest_model.pth")["step"] == steps
    torch.rand(5)
    resumed = resumed_experiment(stopped.manager.experiment_id[:13], {"checkpoints_dir": config.checkpoints_dir})
    assert measured(resumed.run()) == measured(expected)
    assert resumed.folder == stopped.folder
    assert_same_weights(whole.folder / "latest_model.pth", resumed.folder / "latest_model.pth")


def test_it_resumes_from_an_older_checkpoint_by_its_path(config):
    whole = new_experiment(config)
    expected = whole.run()
    resumed = resumed_experiment(str(whole.folder / "checkpoint_epoch_004.pth"), {})
    assert resumed.trainer.epoch == 4
    assert measured(resumed.run()) == measured(expected)


def test_a_training_of_a_version_without_gain_is_continued_without(config):
    def without_gain(stopping):
        experiment = new_experiment(config)
        experiment.trainer.encoder.log_gain = None
        experiment.trainer.set_optimizer(0.001, 0.0)
        experiment.run(stopping)
        return experiment

    whole, stopped = without_gain(lambda: False), without_gain(stop_after(9))
    resumed = resumed_experiment(str(stopped.folder), {})
    resumed.run()
    assert resumed.trainer.encoder.log_gain is None
    assert measured(resumed.history) == measured(whole.history)
    assert_same_weights(whole.folder / "latest_model.pth", resumed.folder / "latest_model.pth")


def test_an_experiment_killed_before_its_first_checkpoint_starts_again(config):
    whole = new_experiment(config)
    expected = whole.run()
    killed = new_experiment(config)
    killed.manager.create(killed.record)
    assert measured(resumed_experiment(str(killed.folder), {}).run()) == measured(expected)


def test_a_finished_experiment_goes_on_for_more_epochs(config):
    first = new_experiment(config)
    first.run()
    with pytest.raises(InputError, match="has its 6 epochs; raise epochs to resume it"):
        resumed_experiment(str(first.folder), {})
    history = resumed_experiment(str(first.folder), {"epochs": 8}).run()
    assert history.epochs[-1] == 8 and history.status == "completed"
    assert json.loads((first.folder / "config.json").read_text())["epochs"] == 8


def test_resuming_refuses_other_settings_and_other_rows(config, tmp_path):
    np.save(tmp_path / "rows.npy", open_vectors(limit=100).rows)
    first = new_experiment(replace(config, data=str(tmp_path / "rows.npy"), batch_size=32))
    first.run(stop_after(1))
    folder = str(first.folder)
    resumed_experiment(folder, {"tau": 1.0, "hidden_dims": [24]}).manager.unlock()
    with pytest.raises(InputError, match=r"tau 2.0: experiment .* has 1.0; leave tau out"):
        resumed_experiment(folder, {"tau": 2.0})
    (tmp_path / "rows.npy").rename(tmp_path / "moved.npy")
    with pytest.raises(InputError, match="rows.npy: no such file"):
        resumed_experiment(folder, {})
    moved = resumed_experiment(folder, {"data": str(tmp_path / "moved.npy")})
    assert moved.trainer.step == 1
    moved.manager.unlock()
    with pytest.raises(InputError, match="builtin: the data differs from what experiment"):
        resumed_experiment(folder, {"data": "builtin"})


def test_a_checkpoint_of_other_settings_is_named(config):
    run, other = new_experiment(config), new_experiment(replace(config, latent_dim=8))
    run.run(stop_after(1))
    other.run(stop_after(1))
    (other.folder / "latest_model.pth").replace(run.folder / "latest_model.pth")
    with pytest.raises(InputError, match=r"latest_model\.pth: it does not fit its experiment's config\.json"):
        resumed_experiment(str(run.folder), {})


def test_a_training_that_diverges_stops_and_says_where(config):
    run = new_experiment(config)
    run.run(stop_after(4))
    resumed = resumed_experiment(str(run.folder), {})
    before = (run.folder / "latest_model.pth").read_bytes()
    with torch.no_grad():
        resumed.encoder.linear.bias[0] = torch.nan
    with pytest.raises(
        TrainingError,
        match=r"loss is NaN or infinite at epoch 2, step 5; lower lr \(try 0.0001\) or check the data for outliers",
    ):
        resumed.run()
    assert json.loads((run.folder / "train_history.json").read_text())["status"] == "failed"
    assert (run.folder / "latest_model.pth").read_bytes() == before


def test_no_held_out_rows_means_no_recall(config):
    history = new_experiment(replace(config, val_fraction=0)).run()
    assert history.recall_history == [] and history.pca_recall is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latent_dim": 769}, "latent_dim 769 is above the 768 dimensions of the vectors"),
        ({"val_fraction": 0.01}, "val_fraction 0.01 holds out 3 of 300 rows, recall@5 needs at least 6"),
        ({"val_fraction": 0.999}, "val_fraction 0.999 leaves 0 rows to train on, 3 are needed"),
    ],
)
def test_settings_that_do_not_fit_the_rows_are_refused(config, changes, message):
    with pytest.raises(InputError, match=message):
        new_experiment(replace(config, **changes))
    assert not Path(config.checkpoints_dir).exists()


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"batch_size": 512}, "--batch-size 512 is above the 270 training rows: batches of 270"),
        ({"latent_dim": 768}, "--latent-dim 768 is the size of the vectors: nothing gets shorter"),
        ({"val_fraction": 0}, "no rows are held out"),
    ],
)
def test_settings_that_can_still_work_are_warned_about(config, changes, warning, capsys):
    assert new_experiment(replace(config, **changes, epochs=1)).run().status == "completed"
    assert f"warning: {warning}" in capsys.readouterr().err


def test_a_matryoshka_encoder_as_long_as_the_vectors_still_shortens(config, capsys):
    new_experiment(replace(config, matryoshka_dims=(8, 768), latent_dim=768, epochs=1))
    assert "warning" not in capsys.readouterr().err


def test_batches_are_a_shuffle_that_can_be_made_again():
    rows = np.arange(100, 131)
    batches = epoch_batches(rows, 10, seed=1, epoch=2)
    assert batches.shape == (3, 10)
    assert len(set(batches.flat)) == 30 and set(batches.flat) <= set(rows)
    np.testing.assert_array_equal(batches, epoch_batches(rows, 10, seed=1, epoch=2))
    assert not np.array_equal(batches, epoch_batches(rows, 10, seed=1, epoch=3))
    assert not np.array_equal(batches, epoch_batches(rows, 10, seed=2, epoch=2))


def test_learning_rate_warms_up_and_falls_to_nothing():
    factors = [lr_factor(step, 100) for step in range(101)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[5:] == sorted(factors[5:], reverse=True) and factors[-1] == pytest.approx(0)
    assert [lr_factor(step, 1) for step in range(2)] == pytest.approx([1, 1])


def test_a_device_that_is_not_there_is_named():
    assert pick_device("cpu").type == "cpu"
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="device cuda: this machine has none"):
            pick_device("cuda")
