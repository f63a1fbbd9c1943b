"""An encoder is named by a file, a folder, an id or a prefix of one."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

from dploss import load_encoder
from dploss.errors import InputError, SettingError
from dploss.experiments.catalog import find_checkpoint, list_experiments


@pytest.fixture
def folder(checkpoints, monkeypatch) -> Path:
    """The newest experiment, below the folder that is worked in."""
    monkeypatch.chdir(checkpoints.parent)
    return list_experiments("checkpoints")[0][0].folder


def test_a_folder_an_id_and_a_prefix_give_the_best_checkpoint(folder, builtin, monkeypatch):
    best = load_encoder(folder / "best.pt").encode(builtin)
    for reference in (folder, str(folder), folder.name, folder.name[:8], folder.absolute(), folder / "best.pt"):
        np.testing.assert_array_equal(load_encoder(reference).encode(builtin), best)
    np.testing.assert_array_equal(load_encoder(folder.name[:8], checkpoints_dir=folder.parent).encode(builtin), best)
    monkeypatch.setenv("HOME", str(Path.cwd()))
    np.testing.assert_array_equal(load_encoder(f"~/{folder}").encode(builtin), best)


def test_without_a_best_checkpoint_it_is_the_latest(folder):
    assert find_checkpoint(folder, "checkpoints").name == "best.pt"
    (folder / "best.pt").unlink()
    assert find_checkpoint(folder, "checkpoints") == folder / "latest_model.pth"
    (folder / "latest_model.pth").unlink()
    with pytest.raises(InputError, match=r"no best\.pt, latest_model\.pth or model\.safetensors in it"):
        find_checkpoint(folder, "checkpoints")


def test_a_link_out_of_an_experiment_is_not_followed(folder, tmp_path):
    (folder / "best.pt").unlink()
    os.rename(folder / "latest_model.pth", tmp_path / "elsewhere.pth")
    (folder / "best.pt").symlink_to(tmp_path / "elsewhere.pth")
    with pytest.raises(InputError, match=r"best\.pt: a link out of its experiment's folder is not followed"):
        load_encoder(folder)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("gone.pth", "gone.pth: no such checkpoint"),
        ("~/gone.pt", "/gone.pt: no such checkpoint"),
        ("gone.safetensors", "gone.safetensors: no such checkpoint"),
        ("no/such/folder", "no/such/folder: no such folder"),
        ("ann/encoder", "ann/encoder: no such folder; an encoder of the Hugging Face Hub is fetched by "),
        ("hf://ann/encoder", "is fetched by hf download ann/encoder --local-dir encoder"),
        ("zzz", "no experiment 'zzz' in checkpoints; there are "),
        ("", "no experiment '' in checkpoints; there are "),
        (None, "an encoder is named by text or a path, got None"),
        (3, "an encoder is named by text or a path, got 3"),
    ],
)
def test_what_is_no_encoder_is_one_line(reference, message, folder):
    with pytest.raises(InputError, match=re.escape(message)):
        load_encoder(reference)


def test_where_there_are_no_experiments_the_parameter_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingError, match="no experiment in checkpoints: .*, checkpoints_dir names another folder"):
        load_encoder("3f2a")


def test_a_shared_folder_is_no_experiment_to_resume(folder, call):
    assert call("share.py", "mine").returncode == 0
    done = call("train.py", "--resume", "mine")
    assert done.returncode == 2 and "no experiment 'mine' in checkpoints" in done.stderr
