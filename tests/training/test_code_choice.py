"""--code auto: which code is chosen, what is said of it, and that a training stays with it."""

import json
import re

import pytest

from dploss import load_encoder
from dploss.codes.build import CODES, TRAINED
from dploss.config import TrainConfig
from dploss.errors import InputError
from dploss.training.launch import new_experiment, resumed_experiment

SMALL = {"bytes": 8, "limit": 400, "epochs": 1, "batch_size": 128, "hidden_dims": (24,), "no_tensorboard": True}


def training(folder, **settings):
    return new_experiment(TrainConfig(**SMALL | {"checkpoints_dir": str(folder)} | settings))


def recalls_of(line):
    return {name: float(value) for name, value in re.findall(r"(\w+) (0\.\d{4})", line)}


def test_the_code_that_keeps_most_is_chosen_and_each_recall_is_that_of_its_own_training(tmp_path, capsys):
    chosen = training(tmp_path, code="auto").record.config
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "--code" in line]
    recalls = recalls_of(line)
    assert set(recalls) == set(CODES) and f"--code {chosen.code}:" in line and "recall@5 on 40 held-out rows" in line
    assert recalls[chosen.code] == max(recalls.values())
    for name in ("trellis", "int4", "float16"):
        run = training(tmp_path / name, code=name, epochs=0, quiet=True)
        assert run.run().recall_history == [pytest.approx(recalls[name], abs=1e-4)]
        if name == chosen.code:
            assert run.record.config.latent_dim == chosen.latent_dim


def test_what_was_chosen_is_recorded_and_not_chosen_again(tmp_path, capsys, monkeypatch):
    steps = iter(range(100))
    run = training(tmp_path, code="auto")
    assert run.run(lambda: next(steps) >= 1).status == "interrupted"
    record = json.loads((run.folder / "config.json").read_text())
    names = {record["code"], TRAINED.get(record["code"], CODES[record["code"]]).name}
    assert record["code"] in CODES and load_encoder(run.folder / "latest_model.pth").code.name in names
    capsys.readouterr()
    again = resumed_experiment(str(run.folder), {})
    assert again.run().status == "completed" and load_encoder(run.folder / "best.pt").code.name.endswith(record["code"])
    assert "--code" not in capsys.readouterr().err


def test_codes_that_the_bytes_do_not_admit_are_left_out(tmp_path, capsys):
    training(tmp_path, code="auto", bytes=9, latent_dim=8)
    assert set(recalls_of(capsys.readouterr().err)) == {"trellis", "scalar", "binary", "pq"}


def test_without_held_out_rows_training_rows_choose(tmp_path, capsys):
    training(tmp_path, code="auto", val_fraction=0)
    assert "recall@5 on 400 training rows" in capsys.readouterr().err


def test_a_code_without_bytes_chooses_nothing(tmp_path, capsys):
    training(tmp_path, code="auto", bytes=None)
    assert "--code" not in capsys.readouterr().err


def test_a_search_for_the_bytes_needs_a_code(call):
    done = call("train.py", "--limit", 400, "--target-recall", 0.5, "--bytes", "--code", "auto")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith(
        "--code auto chooses for one number of --bytes: name a code, or give the number"
    )


def test_a_record_that_says_auto_is_refused():
    settings = TrainConfig(**SMALL, code="auto").as_dict()
    with pytest.raises(InputError, match="not which code was chosen"):
        TrainConfig.from_dict(settings)
