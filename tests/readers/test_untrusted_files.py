"""Experiments and checkpoints from anywhere: nothing in them is executed, claims memory, or leads elsewhere."""

import ast
import io
import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from torch import nn

from dploss.commands import test, train
from dploss.commands import visualize as visualize_training
from dploss.errors import InputError
from dploss.experiments.catalog import find_experiment, list_experiments, open_experiment
from dploss.experiments.checkpoints import load_checkpoint
from dploss.files.torch_archive import read_archive
from dploss.models.build import load_encoder
from dploss.tracking.tracker import BestCheckpointTracker
from dploss.training.launch import resumed_experiment

pytestmark = pytest.mark.faults


@pytest.fixture
def experiment(checkpoints) -> Path:
    """One experiment, to be tampered with."""
    return min(checkpoints.iterdir())


@pytest.fixture
def outside(tmp_path) -> Path:
    """A folder whose files must stay as they are."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "precious.pth").write_bytes(b"precious")
    (folder / "config.json").write_text("{}")
    return folder


def tampered(experiment: Path, **changes: object) -> Path:
    """The latest checkpoint with other values under some keys."""
    path = experiment / "latest_model.pth"
    torch.save(torch.load(path, weights_only=True) | changes, path)
    return path


def test_every_load_of_tensors_is_weights_only():
    loads = 0
    for path in [*ROOT.glob("*.py"), *ROOT.glob("dploss/**/*.py"), *ROOT.glob("metrics/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.Import) and any(name.name == "joblib" for name in node.names)), path
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "pickle.load", "pickle.loads"):
                assert ast.unparse(node.func) == "torch.load", path
                assert "weights_only=True" in ast.unparse(node), path
                loads += 1
    assert loads == 2


class Trap:
    """Unpickled, it makes a folder."""

    def __reduce__(self) -> tuple:
        return (os.mkdir, ("trapped",))


@pytest.mark.parametrize(
    ("script", "flags"),
    [
        (train, ("--resume", "{id}", "--epochs", "9")),
        (test, ("--experiment_id", "{id}")),
        (test, ("--checkpoint", "checkpoints/{id}/latest_model.pth")),
        (visualize_training, ("--experiment_id", "{id}")),
    ],
)
def test_a_malicious_checkpoint_is_refused_by_every_script(experiment, script, flags, monkeypatch, capsys):
    monkeypatch.chdir(experiment.parents[1])
    torch.save(Trap(), experiment / "latest_model.pth")
    (experiment / "best.pt").unlink()
    script.main([flag.format(id=experiment.name) for flag in flags])
    assert "latest_model.pth: not a readable checkpoint" in capsys.readouterr().err
    assert not Path("trapped").exists()


def bomb(path: Path, levels: int) -> None:
    """A few hundred bytes that are 10^levels numbers when they are gone through."""
    value: list = [0.0] * 10
    for _ in range(levels - 1):
        value = [value] * 10
    torch.save({"epoch": value}, path)


def squeezed(path: Path) -> None:
    """A checkpoint of zeros, its records deflated to next to nothing."""
    whole = io.BytesIO()
    torch.save({"weights": torch.zeros(10_000_000)}, whole)
    with zipfile.ZipFile(whole) as archive, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as small:
        for name in archive.namelist():
            small.writestr(name, archive.read(name))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: bomb(path, 12), "declared size exceeds the file"),
        (squeezed, "declared size exceeds the file"),
        (lambda path: torch.save({"a": torch.zeros(1).expand(10**9, 10**6)}, path), "declared size exceeds the file"),
        (lambda path: torch.save({"a": torch.zeros(2, 2).to_sparse()}, path), "tensors other than dense ones"),
        (lambda path: torch.save({"a": torch.empty(10**9, device="meta")}, path), "tensors other than dense ones"),
        (lambda path: torch.save({"a": 10**400}, path), "holds a int"),
        (lambda path: torch.save(nn.Linear(2, 2), path), "holding more than plain values"),
        (lambda path: torch.save({}, path, _use_new_zipfile_serialization=False), "another kind of file"),
        (lambda path: path.write_bytes(pickle.dumps({"a": 1})), "another kind of file"),
        (lambda path: path.write_bytes(b""), "truncated"),
    ],
)
def test_a_file_that_claims_or_holds_what_it_should_not_is_refused(tmp_path, write, message):
    write(tmp_path / "strange.pth")
    with pytest.raises(InputError, match=message):
        read_archive(tmp_path / "strange.pth")


def test_a_checkpoint_comes_back_whole(experiment):
    path = experiment / "latest_model.pth"
    mine, theirs = read_archive(path), torch.load(path, weights_only=True)
    assert mine["config"] == theirs["config"] and mine["train_history"] == theirs["train_history"]
    for name, weights in theirs["model_state_dict"].items():
        assert torch.equal(mine["model_state_dict"][name], weights)


@pytest.mark.parametrize(
    "changes",
    [
        {"latent_dim": 8},
        {"latent_dim": 10**9},
        {"hidden_dims": [2**16] * 3},
        {"hidden_dims": [1] * 100_000},
        {"hidden_dims": "many"},
        {"input_dim": 10**12},
        {"input_dim": -1},
        {"input_dim": None},
        {"images": "builtin", "image_size": 1024},
        {"metric": ["cosine"]},
        {"dropout": float("nan")},
        {"tau": 10**400 // 10**390},
        {"data": None},
    ],
)
def test_a_config_that_disagrees_with_the_weights_is_refused(experiment, changes):
    config = torch.load(experiment / "latest_model.pth", weights_only=True)["config"]
    path = tampered(experiment, config=config | changes)
    with pytest.raises(InputError, match=r"latest_model\.pth: weights do not fit the config"):
        load_encoder(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epoch", "4"),
        ("config", None),
        ("model_state_dict", [1]),
        ("train_history", {"epochs": [1], "total_loss": []}),
        ("optimizer_state_dict", {"state": {}, "param_groups": []}),
        ("rng_state", {"cpu": torch.zeros(3)}),
        ("partial_epoch", {}),
        ("scheduler_state_dict", {}),
    ],
)
def test_an_older_or_broken_checkpoint_is_not_gone_on_from(experiment, key, value):
    before = json.loads((experiment / "train_history.json").read_text())
    tampered(experiment, **{key: value})
    with pytest.raises(InputError, match=r"latest_model\.pth"):
        resumed_experiment(str(experiment), {"epochs": 9})
    assert json.loads((experiment / "train_history.json").read_text()) == before


def test_a_checkpoint_without_a_key_names_it(experiment):
    path = experiment / "latest_model.pth"
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["partial_epoch"]
    torch.save(checkpoint, path)
    with pytest.raises(InputError, match="it lacks partial_epoch"):
        load_checkpoint(path)


@pytest.mark.parametrize("name", ["latest_model.pth", "train_history.json", "config.json", "evaluation_samples"])
def test_a_link_out_of_an_experiment_is_not_followed(experiment, outside, name):
    shutil.rmtree(experiment / name) if (experiment / name).is_dir() else (experiment / name).unlink(missing_ok=True)
    (experiment / name).symlink_to(outside / "precious.pth" if "." in name else outside)
    for use in (lambda: open_experiment(experiment), lambda: resumed_experiment(str(experiment), {"epochs": 9})):
        with pytest.raises(InputError, match=f"{name}: a link out of its experiment's folder is not followed"):
            use()
    assert sorted(os.listdir(outside)) == ["config.json", "precious.pth"]
    assert (outside / "precious.pth").read_bytes() == b"precious"


def test_a_linked_experiment_is_not_followed(checkpoints, tmp_path, trained):
    shutil.move(min(checkpoints.iterdir()), tmp_path / "elsewhere")
    (checkpoints / "linked").symlink_to(tmp_path / "elsewhere")
    found, skipped = list_experiments(checkpoints)
    assert len(found) == 2 and len(skipped) == 1 and "linked: a link out of" in skipped[0]
    with pytest.raises(InputError, match="no experiment 'linked'"):
        find_experiment(checkpoints, "linked")
    assert find_experiment(checkpoints, str(tmp_path / "elsewhere")) == tmp_path / "elsewhere"


@pytest.mark.parametrize("reference", ["..", "../outside", "/", "", ".", "*", "\0", "a" * 5000])
def test_an_id_leads_nowhere_else(checkpoints, reference):
    with pytest.raises(InputError, match="no experiment"):
        find_experiment(checkpoints, reference)


@pytest.mark.parametrize(
    "path", ["../outside/precious.pth", "{outside}/precious.pth", "link/precious.pth", ".", "config.json"]
)
def test_a_tracked_path_leads_nowhere_else(experiment, outside, path, caplog):
    (experiment / "link").symlink_to(outside)
    state = json.loads((experiment / "best_checkpoints.json").read_text())
    entry = state["checkpoints"][0] | {"path": path.format(outside=outside), "metrics": {"recall": -1.0}, "order": 0}
    (experiment / "best_checkpoints.json").write_text(json.dumps(state | {"others": [entry]}))
    tracker = BestCheckpointTracker(experiment, "recall", save_top_k=1, keep_every_n_steps=0)
    shutil.copy(experiment / "latest_model.pth", experiment / "new.pth")
    tracker.update(99, 9, experiment / "new.pth", {"recall": 2.0})
    assert "no longer tracked" in caplog.text
    assert (outside / "precious.pth").read_bytes() == b"precious"
    assert (outside / "config.json").exists() and (experiment / "config.json").exists()


def test_text_from_a_file_cannot_steer_the_terminal(experiment, monkeypatch, capsys):
    config = json.loads((experiment / "config.json").read_text())
    (experiment / "config.json").write_text(json.dumps(config | {"loss_function": "\x1b[2J\x1b]0;title\x07"}))
    monkeypatch.chdir(experiment.parents[1])
    assert visualize_training.main(["--list"]) == 0 and train.main(["--resume", experiment.name]) == 2
    printed = "".join(capsys.readouterr())
    assert "title" in printed and "\x1b" not in printed and "\x07" not in printed
