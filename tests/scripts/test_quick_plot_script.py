import json

import numpy as np
import pytest
from PIL import Image

from dploss.commands import plot as quick_plot


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def newest(checkpoints):
    created = {path.parent.name: json.loads(path.read_text())["created"] for path in checkpoints.glob("*/config.json")}
    return max(created, key=lambda name: (created[name], name))


def test_the_newest_experiment_is_drawn_into_its_folder(run, checkpoints, tmp_path):
    done = run("quick_plot.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"checkpoints/{newest(checkpoints)}/quick_plot.png\n"
    image = Image.open(tmp_path / done.stdout.strip())
    assert image.size == (1800, 1215) and len(np.unique(np.asarray(image.convert("L")))) > 50


def test_one_may_be_named_and_saved_elsewhere(checkpoints, here, capsys):
    oldest = sorted(path.name for path in checkpoints.iterdir())[0]
    for flag in ("--experiment_id", "--experiment-id"):
        assert quick_plot.main([flag, oldest[:8], "--save", "curves.pdf"]) == 0
        assert capsys.readouterr().out == "curves.pdf\n"
    assert (here / "curves.pdf").read_bytes().startswith(b"%PDF")
    assert quick_plot.main(["--checkpoints-dir", str(checkpoints), "--save", "curves.svg"]) == 0


def test_it_works_while_the_training_runs(checkpoints, here, capsys):
    path = checkpoints / newest(checkpoints) / "train_history.json"
    history = json.loads(path.read_text())
    kept = {name: value[:1] if isinstance(value, list) else value for name, value in history.items()}
    path.write_text(json.dumps({**kept, "status": "running", "recall_epochs": [], "recall_history": []}))
    assert quick_plot.main([]) == 0
    assert newest(checkpoints) in capsys.readouterr().out


def test_a_history_of_another_program_is_drawn(here, capsys):
    (here / "checkpoints" / "exp1").mkdir(parents=True)
    history = {"epochs": [1, 2, 3], "total_loss": [3, 2, 0]}
    (here / "checkpoints" / "exp1" / "train_history.json").write_text(json.dumps(history))
    assert quick_plot.main([]) == 0
    assert capsys.readouterr().out == "checkpoints/exp1/quick_plot.png\n"
    assert Image.open(here / "checkpoints/exp1/quick_plot.png").size == (975, 675)


def test_broken_folders_are_named_and_the_next_is_drawn(checkpoints, here, capsys):
    broken = newest(checkpoints)
    (checkpoints / broken / "train_history.json").write_text("{")
    (checkpoints / "empty").mkdir()
    assert quick_plot.main([]) == 0
    printed = capsys.readouterr()
    assert broken not in printed.out
    assert [line.split(":")[1].strip() for line in printed.err.splitlines()] == sorted(
        [f"checkpoints/{broken}/train_history.json", "checkpoints/empty"]
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "no experiment in checkpoints: train.py makes one"),
        (["--experiment_id", "3f2a"], "no experiment in checkpoints"),
        (["--checkpoints-dir", "elsewhere"], "no experiment in elsewhere"),
        (["--epochs", "3"], "unrecognized arguments: --epochs 3"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(run, flags, message):
    done = run("quick_plot.py", *flags)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"quick_plot.py: {message}") and done.stderr.count("\n") == 1


def test_a_picture_of_another_format_is_refused(checkpoints, here, capsys):
    assert quick_plot.main(["--save", "curves.xlsx"]) == 2
    assert "ends in .png, .pdf, .svg" in capsys.readouterr().err
