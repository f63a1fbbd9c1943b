"""train.py --config: settings from TOML and config.json; flags override them, they override the environment."""

import json
from pathlib import Path

import pytest

from dploss.cli.config_file import settings_of_file
from dploss.config import TrainConfig
from dploss.errors import InputError
from dploss.experiments.catalog import list_experiments

TOML = """
data = "builtin"
limit = 300
latent-dim = 16
hidden_dims = [24]
lr = 1
batch_size = 64
epochs = 1
seed = 3
quiet = true
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for variable in ("SAVE_INTERVAL", "DEVICE"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


def recorded(folder: Path) -> dict:
    """What the newest experiment was trained with."""
    return dict(list_experiments(folder / "checkpoints")[0][0].config)


def losses(folder: Path) -> list[float]:
    return list_experiments(folder / "checkpoints")[0][0].history.total_loss


def test_flags_override_the_file_and_it_overrides_the_environment(folder, call, monkeypatch):
    (folder / "run.toml").write_text(TOML + "save_interval = 2\n")
    monkeypatch.setenv("SAVE_INTERVAL", "3")
    monkeypatch.setenv("DEVICE", "cpu")
    done = call("train.py", "--config", "run.toml", "--seed", 4, "--hidden-dims", 12)
    assert done.returncode == 0 and "reading" not in done.stderr, done.stderr
    config = recorded(folder)
    found = [config[name] for name in ("seed", "hidden_dims", "latent_dim", "save_interval", "device", "k", "lr")]
    assert found == [4, [12], 16, 2, "cpu", 5, 1]


def test_the_config_of_an_experiment_repeats_it(folder, call):
    flags = ("--limit", 300, "--latent-dim", 16, "--hidden-dims", 24, "--batch-size", 64, "--epochs", 2, "--quiet")
    assert call("train.py", *flags, "--matryoshka-dims", 8, 16).returncode == 0
    first, trained = recorded(folder), losses(folder)
    (path,) = folder.glob("checkpoints/*/config.json")
    assert call("train.py", "--config", path).returncode == 0
    again = recorded(folder)
    assert again["experiment_id"] != first["experiment_id"] and losses(folder) == trained
    apart = ("experiment_id", "created")
    assert {**again, **{name: first[name] for name in apart}} == first


def test_the_config_of_a_shared_encoder_is_read_too(checkpoints, call, folder):
    assert call("share.py", "mine").returncode == 0
    settings = settings_of_file("mine/config.json", {"data": "other.npy"})
    assert TrainConfig(**settings).latent_dim == 16 and settings["data"] == "other.npy"


@pytest.mark.parametrize(
    ("content", "flags", "expected"),
    [
        ({"data": {"path": "a.npy", "rows": 9}}, {}, {"data": "a.npy"}),
        ({"images": "p", "data": {"path": "/p"}}, {}, {"images": "/p"}),
        ({"images": "p", "data": {"path": "/p"}}, {"data": "a.npy"}, {"data": "a.npy"}),
        ({"images": None, "data": {"path": "a.npy"}}, {}, {"images": None, "data": "a.npy"}),
        ({"matryoshka": True, "matryoshka_dims": [4, 8]}, {"matryoshka": False}, {"matryoshka": False}),
        ({"quiet": True, "prune": True}, {"quiet": False}, {"quiet": False, "prune": True}),
        ({"hidden-dims": []}, {}, {"hidden_dims": ()}),
        (
            {"limit": None, "min_delta": "auto", "tau": 2},
            {"tau": 0.5},
            {"limit": None, "min_delta": "auto", "tau": 0.5},
        ),
    ],
)
def test_keys_become_settings(content, flags, expected, folder):
    (folder / "run.json").write_text(json.dumps(content))
    assert settings_of_file("run.json", flags) == expected


def test_every_switch_of_the_file_has_a_flag_against_it(folder, call):
    (folder / "run.toml").write_text(TOML + "no_tensorboard = true\nprune = true\n")
    assert call("train.py", "--config", "run.toml", "--tensorboard", "--no-prune").returncode == 0
    config = recorded(folder)
    assert (config["no_tensorboard"], config["prune"], config["quiet"]) == (False, False, True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("latent_dims = 8", "run.toml: latent_dims is no setting; did you mean latent_dim?"),
        ("zzz = 8", "run.toml: zzz is no setting; train.py --help shows them, as --latent-dim for latent_dim"),
        ("[training]\nlr = 1", "run.toml: training is no setting; settings are keys outside of tables, as latent_dim"),
        ("latent_dim = '8'", "run.toml: latent_dim must be a whole number, got '8'"),
        ("latent-dim = true", "run.toml: latent_dim must be a whole number, got True"),
        ("hidden_dims = 8", "run.toml: hidden_dims must be a list of whole numbers, got 8"),
        ("lr = nan", "run.toml: lr must be finite, got nan"),
        ("metric = 'l2'", "run.toml: metric must be one of euclidean, cosine, ip, got 'l2'"),
        ("prune = 1", "run.toml: prune must be true or false, got 1"),
        ("seed = 1979-05-27", "run.toml: seed must be a whole number, got datetime.date(1979, 5, 27)"),
        ("latent_dim = 8\nlatent-dim = 9", "run.toml: latent_dim is in it twice, with - and with _"),
        ("[data]\nrows = 3", "run.toml: data must be text, got {'rows': 3}"),
        ("= 8", "run.toml: not readable TOML: "),
        ("latent_dim = 8\nlatent_dim = 9", "run.toml: not readable TOML: Cannot overwrite a value"),
    ],
)
def test_what_is_wrong_in_it_is_one_line(text, message, folder, call):
    (folder / "run.toml").write_text(text)
    done = call("train.py", "--config", "run.toml")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"train.py: {message}")
    assert not (folder / "checkpoints").exists()


def test_other_files_are_named(folder, call):
    for name, content, message in (
        ("gone.toml", None, "gone.toml: no such file"),
        ("run.yaml", b"lr: 1", "run.yaml: settings are read from .toml or .json"),
        ("bytes.toml", b"\xff", "bytes.toml: not readable TOML: "),
        ("list.json", b"[1]", "list.json: it holds no JSON object"),
        ("half.json", b"{", "half.json: not readable JSON: "),
    ):
        if content is not None:
            (folder / name).write_bytes(content)
        with pytest.raises(InputError, match=message):
            settings_of_file(name, {})


def test_it_does_not_go_with_resume_and_sizes_are_not_searched_for_in_vain(folder, call):
    (folder / "run.toml").write_text(TOML)
    done = call("train.py", "--config", "run.toml", "--resume", "3f2a")
    assert done.returncode == 2 and done.stderr.startswith("train.py: --config starts a new experiment: leave --resume")
    done = call("train.py", "--config", "run.toml", "--target-recall", 0.9)
    assert done.returncode == 2 and "--target-recall trains sizes anew: leave --latent-dim out" in done.stderr


def test_a_home_folder_is_found(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    (folder / "run.toml").write_text("k = 3")
    assert settings_of_file("~/run.toml", {}) == {"k": 3}
