import json
import os
import pickle
import uuid

import pytest
import torch

from dploss.config import TrainConfig
from dploss.errors import InputError
from dploss.experiments.checkpoints import CheckpointManager, load_checkpoint
from dploss.experiments.history import TrainHistory
from dploss.experiments.layout import load_config
from dploss.experiments.record import DataRecord, ExperimentRecord, Origin, SplitRecord

STATE = {
    "epoch": 7,
    "step": 70,
    "model_state_dict": {"weight": torch.arange(3.0)},
    "optimizer_state_dict": {},
    "scheduler_state_dict": {},
    "train_history": TrainHistory().as_dict(),
    "config": {"latent_dim": 3},
    "rng_state": {"cpu": torch.get_rng_state()},
    "partial_epoch": {"loss_sums": torch.zeros(3), "seconds": 0.0},
}

RECORD = ExperimentRecord(TrainConfig(), DataRecord("builtin", 10, "sha256:0"), 768, SplitRecord(9, 1), Origin("3f2a"))


@pytest.fixture
def manager(tmp_path):
    manager = CheckpointManager(tmp_path / "checkpoints")
    manager.lock()
    manager.create(RECORD)
    yield manager
    manager.unlock()


def test_every_experiment_has_a_folder_named_by_its_uuid(manager, tmp_path):
    assert str(uuid.UUID(manager.experiment_id)) == manager.experiment_id
    assert manager.folder == tmp_path / "checkpoints" / manager.experiment_id
    assert load_config(manager.folder) == json.loads(json.dumps(RECORD.as_dict()))
    assert CheckpointManager(tmp_path).experiment_id != manager.experiment_id


def test_nothing_is_made_before_it_is_locked(tmp_path):
    assert not CheckpointManager(tmp_path / "checkpoints").folder.parent.exists()


def test_files_are_named_as_people_know_them(manager):
    paths = [
        manager.save_latest(STATE),
        manager.save_epoch(STATE),
        manager.save_epoch({**STATE, "epoch": 1000}),
    ]
    manager.save_history(TrainHistory())
    assert [path.name for path in paths] == [
        "latest_model.pth",
        "checkpoint_epoch_007.pth",
        "checkpoint_epoch_1000.pth",
    ]
    assert sorted(os.listdir(manager.folder)) == sorted(
        [".lock", "config.json", "train_history.json", *(path.name for path in paths)]
    )


def test_a_checkpoint_comes_back_as_it_went(manager):
    loaded = load_checkpoint(manager.save_latest(STATE))
    assert loaded.keys() == STATE.keys()
    torch.testing.assert_close(loaded["model_state_dict"]["weight"], torch.arange(3.0))


def test_create_clears_what_a_killed_process_left(manager):
    (manager.folder / ".latest_model.pth.99.tmp").write_bytes(b"half")
    CheckpointManager(manager.folder.parent, manager.experiment_id).create(RECORD)
    assert sorted(os.listdir(manager.folder)) == [".lock", "config.json"]


class Trap:
    """Unpickled, it makes a folder."""

    def __reduce__(self):
        return (os.mkdir, ("trapped",))


def test_nothing_in_a_checkpoint_is_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(Trap(), "saved.pth")
    (tmp_path / "pickled.pth").write_bytes(pickle.dumps(Trap(), protocol=2))
    for name in ("saved.pth", "pickled.pth"):
        with pytest.raises(InputError, match=f"{name}: not a readable checkpoint"):
            load_checkpoint(name)
    assert not (tmp_path / "trapped").exists()


def test_truncated_foreign_and_missing_files_are_named(manager, tmp_path):
    whole = manager.save_latest(STATE).read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"not a checkpoint at all", b"broken"):
        (tmp_path / "bad.pth").write_bytes(content)
        with pytest.raises(InputError, match=r"bad\.pth: not a readable checkpoint"):
            load_checkpoint(tmp_path / "bad.pth")
    torch.save({"epoch": 1}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"other\.pth: not a checkpoint of dploss, it lacks step, model_state_dict"):
        load_checkpoint(tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"gone\.pth: no such checkpoint"):
        load_checkpoint(tmp_path / "gone.pth")
