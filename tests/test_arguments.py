"""The public names take NumPy's and torch's numbers as they take Python's, and what they write is the same."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch

import dploss
from dploss.arguments import whole_number
from dploss.codes.build import fit_code
from dploss.config import TrainConfig
from dploss.errors import SettingError

ROWS = np.random.default_rng(0).normal(size=(60, 12)).astype(np.float32)
KINDS = [np.int64, np.uint8, np.array, torch.tensor]


@pytest.fixture
def encoder() -> dploss.DPEncoder:
    torch.manual_seed(0)
    encoder = dploss.DPEncoder(12, (8,), 8, dims=(4,))
    encoder.code = fit_code("trellis", encoder.encode(ROWS), 4)
    return encoder


@pytest.mark.parametrize("kind", KINDS)
def test_encoders_and_indexes_take_them(kind, encoder):
    same = dploss.DPEncoder(kind(12), (kind(8),), kind(8), dims=(kind(4),))
    assert (same.input_dim, same.hidden_dims, same.latent_dim, same.dims) == (12, (8,), 8, (4, 8))
    np.testing.assert_array_equal(
        encoder.encode(ROWS, batch_size=kind(7), dim=kind(4)), encoder.encode(ROWS, batch_size=7, dim=4)
    )
    index = dploss.CodeIndex(encoder)
    index.add(ROWS)
    found = index.search(ROWS[:3], kind(4), rerank=kind(2), originals=ROWS, nprobe=kind(3))[1]
    np.testing.assert_array_equal(found, index.search(ROWS[:3], 4, rerank=2, originals=ROWS)[1])
    assert type(dploss.ConvAutoencoder(kind(16), kind(4)).latent_dim) is int


@pytest.mark.parametrize("kind", KINDS)
def test_settings_are_plain_when_written(kind):
    config = TrainConfig(latent_dim=kind(8), hidden_dims=[kind(8)], matryoshka_dims=np.array([4, 8]), seed=kind(3))
    assert config == TrainConfig(latent_dim=8, hidden_dims=(8,), matryoshka_dims=(4, 8), seed=3)
    assert TrainConfig.from_dict(json.loads(json.dumps(config.as_dict()))) == config


def test_other_kinds_of_settings_are_plain_too(tmp_path):
    given = {"tau": np.float32(0.5), "lr": np.float64(0.1), "prune": np.True_, "metric": np.str_("cosine")}
    config = TrainConfig(**given, data=tmp_path / "rows.npy")
    assert (config.tau, config.lr, config.prune, config.metric) == (0.5, 0.1, True, "cosine")
    written = json.loads(json.dumps(config.as_dict()))
    assert written["data"] == str(tmp_path / "rows.npy") and written["tau"] == 0.5
    with pytest.raises(SettingError, match="k must be a whole number, got True"):
        TrainConfig(k=np.True_)
    with pytest.raises(SettingError, match=r"hidden_dims must be a whole number, got 1\.5"):
        TrainConfig(hidden_dims=np.array([1.5]))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_measured_and_tracked_is_json(kind, tmp_path):
    evaluator = dploss.RecallEvaluator(kind(5), num_samples=kind(50), seed=kind(1))
    recall = evaluator.evaluate(ROWS, ROWS[:, :3])
    assert json.loads(json.dumps(asdict(recall)))["k"] == 5
    assert recall == dploss.RecallEvaluator(5, num_samples=50, seed=1).evaluate(ROWS, ROWS[:, :3])

    (tmp_path / "a.pth").write_bytes(b"weights")
    tracker = dploss.BestCheckpointTracker(tmp_path, "recall", save_top_k=kind(2), keep_every_n_steps=kind(5))
    tracker.update(kind(3), kind(1), tmp_path / "a.pth", {"recall": np.float32(0.5)})
    tracker.export_results()
    state = json.loads((tmp_path / "best_checkpoints.json").read_text())
    assert '"save_top_k": 2' in json.dumps(state) and tracker.best.step == 3

    history = dploss.TrainHistory()
    history.add_epoch(*(np.float32(0.5) for _ in range(5)))
    history.add_recall(np.float32(0.25), {np.int64(4): np.float64(0.125)})
    written = json.loads(json.dumps(history.as_dict()))
    assert written["total_loss"] == [0.5] and written["recall_by_dim"] == {"4": [0.125]}


def test_the_reducer_takes_them():
    settings = {
        "epochs": np.int64(1),
        "batch_size": np.int64(20),
        "hidden_dims": (np.int64(8),),
        "lr": np.float32(0.01),
    }
    reducer = dploss.DPReducer(np.int64(4), **settings, random_state=np.int64(0)).fit(ROWS)
    assert type(reducer.n_components_) is int and reducer.transform(ROWS).shape == (60, 4)


@pytest.mark.parametrize("value", [True, np.True_, 3.0, np.float64(3), "3", None, np.array([3]), [3]])
def test_what_is_no_whole_number_is_named(value):
    with pytest.raises(SettingError, match="^k must be a whole number, got "):
        whole_number("k", value, 1)
    with pytest.raises(SettingError, match="^k must be a whole number, got "):
        dploss.RecallEvaluator(value)


def test_limits_are_named():
    with pytest.raises(SettingError, match="^k must be at least 1, got 0$"):
        whole_number("k", np.int64(0), 1)
    with pytest.raises(SettingError, match="^k must be within 1 and 9, got 10$"):
        whole_number("k", 10, 1, 9)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([["a"]], "latent must be a matrix of real numbers, got <U1"),
        (None, "latent must be a matrix of real numbers, got object"),
        (torch.zeros(60, 3, dtype=torch.complex64), "latent must be a matrix of real numbers, got torch.complex64"),
    ],
)
def test_recall_is_of_numbers(values, message):
    with pytest.raises(TypeError, match=message):
        dploss.RecallEvaluator().evaluate(ROWS, values)


def test_a_recall_has_the_standard_error_of_a_mean_over_queries():
    evaluator = dploss.RecallEvaluator(5)
    latents = ROWS[:, :3]
    kept = evaluator.neighbours_kept(ROWS, latents, [(5, 5)])[0] / 5
    recall = evaluator.evaluate(ROWS, latents)
    assert recall.value == pytest.approx(kept.mean())
    assert recall.standard_error == pytest.approx(kept.std(ddof=1) / 60**0.5)
