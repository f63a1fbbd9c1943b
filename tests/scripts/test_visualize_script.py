import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from wcwidth import wcswidth

from dploss.commands import visualize as visualize_training
from dploss.experiments.catalog import list_experiments


@pytest.fixture
def experiments(checkpoints, monkeypatch):
    """Three experiments in the folder that the scripts run in, newest first."""
    monkeypatch.chdir(checkpoints.parent)
    return list_experiments("checkpoints")[0]


def test_list_is_a_table_newest_first(run, experiments):
    done = run("visualize_training.py", "--list")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split()[:2] for line in lines[1::2]] == [
        [str(place), experiment.id[:8]] for place, experiment in enumerate(experiments, start=1)
    ]
    assert all("  builtin, 768 -> 16, euclidean, MLP 32, DPLossV" in line for line in lines[2::2])


def test_the_list_as_json_has_settings_that_matter_and_results(call, experiments):
    found = json.loads(call("visualize_training.py", "--list", "--json").stdout)
    assert [one["experiment"] for one in found] == [experiment.id for experiment in experiments]
    one, history = found[0], experiments[0].history
    assert (one["input_dim"], one["rows"], one["train_rows"], one["held_out_rows"]) == (768, 400, 360, 40)
    assert one["settings"]["latent_dim"] == 16 and one["settings"]["metric"] == "euclidean"
    assert not {"image_size", "code", "clip_model", "lambda_recon", "matryoshka_dims"} & one["settings"].keys()
    assert one["best_recall"]["value"] == max(history.recall_history) and one["best_recall"]["rows"] == 40
    assert one["total_loss"]["final"] == history.total_loss[-1] and one["status"] == "completed"


def test_a_data_file_with_wide_letters_fits_the_lines(call, experiments):
    path = experiments[1].folder / "config.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    record["data"]["path"] = "/자료/한국어_문장_임베딩.parquet"
    path.write_text(json.dumps(record, ensure_ascii=False), encoding="utf-8")
    for flags in (("--list",), ("--compare", "--no-recall")):
        lines = call("visualize_training.py", *flags).stdout.splitlines()
        assert "한국어_문장_임베딩.parquet" in "".join(lines) and max(map(wcswidth, lines)) <= 80


def test_piped_it_takes_the_newest_and_measures_its_recall(run, experiments):
    done = run("visualize_training.py")
    assert (done.returncode, done.stderr) == (0, "")
    newest = experiments[0]
    assert done.stdout.endswith(f"\ncheckpoints/{newest.id}/training.png\n")
    assert f"recall@5             {newest.history.recall_history[-1]:.4f} in epoch 4" in done.stdout
    image = Image.open(newest.folder / "training.png")
    assert image.size == (2400, 1320) and len(np.unique(np.asarray(image.convert("L")))) > 50
    assert list(json.loads((newest.folder / "recall.json").read_text())) == ["latest_model.pth"]


def test_at_a_terminal_it_asks_which_one(terminal, experiments):
    code, shown = terminal("zz\n2\n", "visualize_training.py", "--no-recall")
    assert code == 0
    assert all(f" {experiment.id[:8]} " in shown for experiment in experiments)
    assert "no experiment 'zz'" in shown and shown.count("which one (number or id; Enter: 1): ") == 2
    assert shown.endswith(f"\ncheckpoints/{experiments[1].id}/training.png\n")
    assert experiments[1].folder.joinpath("training.png").exists()


def test_at_a_terminal_an_id_prefix_will_do(terminal, experiments):
    code, shown = terminal(f"{experiments[2].id[:6]}\n", "visualize_training.py", "--recall-history")
    assert code == 0 and shown.endswith(f"\ncheckpoints/{experiments[2].id}/training.png\n")
    assert "recall of" in shown and "checkpoint" in shown
    measured = json.loads((experiments[2].folder / "recall.json").read_text())
    names = [f"checkpoint_epoch_{epoch:03d}.pth" for epoch in (0, 2, 4)]
    assert list(measured) == [*names, "latest_model.pth"]
    assert [[other["k"] for other in one["others"]] for one in measured.values()] == [[1, 10]] * 4


def test_at_a_terminal_several_are_chosen_to_compare(terminal, experiments):
    code, shown = terminal("1,3\n", "visualize_training.py", "--compare", "--no-recall", "--save", "two.png")
    assert code == 0 and shown.endswith("\ntwo.png\n")
    table = shown[shown.index("experiment  epochs") :]
    assert experiments[0].id[:8] in table and experiments[2].id[:8] in table and experiments[1].id[:8] not in table


def test_the_end_of_the_input_is_no_choice(terminal, experiments):
    code, shown = terminal("\x04", "visualize_training.py")
    assert code == 2 and "visualize_training.py: no experiment was chosen" in shown


def test_a_terminal_whose_output_is_piped_is_not_asked(experiments):
    command = f"{sys.executable} {ROOT / 'visualize_training.py'} --no-recall | cat"
    code = subprocess.run(["script", "-qec", command, "/dev/null"], capture_output=True, text=True, timeout=100)
    assert code.returncode == 0 and "which one" not in code.stdout


@pytest.mark.parametrize("flag", ["--experiment_id", "--experiment-id"])
def test_one_is_named_by_a_prefix(experiments, flag, capsys):
    chosen = experiments[1]
    assert visualize_training.main([flag, chosen.id[:7], "--save", "mine.svg"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["experiment", chosen.id]
    assert b"<svg" in (chosen.folder.parent.parent / "mine.svg").read_bytes()


def test_recall_is_kept_and_needs_torch_only_once(run, experiments):
    code = (
        "import sys, visualize_training; code = visualize_training.main(sys.argv[1:]); "
        "sys.exit(code or 10 * ('torch' in sys.modules))"
    )

    def done():
        command = [sys.executable, "-c", code, "--recall-history", "--save", "a.png"]
        return subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True).returncode

    assert (done(), done()) == (10, 0)


@pytest.mark.parametrize("flags", [["--list"], ["--no-recall"], ["--compare", "--no-recall"]])
def test_what_measures_nothing_imports_no_torch(experiments, flags):
    code = "import sys, visualize_training; visualize_training.main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", code, *flags], env=environment, capture_output=True).returncode == 0


def test_quick_plot_imports_no_torch(experiments):
    code = "import sys, quick_plot; quick_plot.main([]); sys.exit('torch' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True).returncode == 0


def test_compare_takes_all_when_piped(call, experiments):
    done = call("visualize_training.py", "--compare", "--recall-history")
    assert (done.returncode, done.stderr) == (0, "")
    header, *lines = done.stdout.splitlines()
    assert header.split() == ["experiment", "epochs", "recall@5", "gain", "total", "rank", "pairdist", "time"]
    assert lines.pop() == "checkpoints/compare.png"
    for row, settings, experiment in zip(lines[:6:2], lines[1:6:2], experiments, strict=True):
        history = experiment.history
        gain = history.recall_history[-1] - max(history.baselines().values())
        assert row.split()[:4] == [experiment.id[:8], "4/4", f"{history.recall_history[-1]:.4f}", f"{gain:+.4f}"]
        assert f"{history.total_loss[-1]:.4g}" in row
        assert settings == f"    loss_function={experiment.config['loss_function']}"
    assert lines[6:8] == ["", "gain is over the strongest of these:"] and lines[8].split()[:2] == [
        "experiment",
        "start",
    ]
    assert Image.open("checkpoints/compare.png").size[0] == 2100


def test_compare_prints_json_alone(experiments, capsys):
    names = [experiments[2].id[:8], experiments[0].id, experiments[2].id]
    assert visualize_training.main(["--compare", "--experiments", *names, "--no-recall", "--json"]) == 0
    printed = capsys.readouterr()
    assert [one["experiment"] for one in json.loads(printed.out)] == [experiments[2].id, experiments[0].id]
    assert printed.err == "checkpoints/compare.png\n"


def test_data_that_is_gone_is_said_and_the_rest_is_drawn(experiments, capsys):
    path = experiments[0].folder / "config.json"
    config = json.loads(path.read_text())
    config["data"]["path"] = "/gone/vectors.npy"
    path.write_text(json.dumps(config))
    assert visualize_training.main(["--compare"]) == 0
    printed = capsys.readouterr()
    assert printed.err == f"recall of {experiments[0].id}: not measured: /gone/vectors.npy: no such file\n"
    # What the training recorded is shown instead.
    assert f"{experiments[0].history.recall_history[-1]:.4f}" in printed.out


def test_broken_folders_and_histories_of_other_programs(experiments, capsys):
    (experiments[0].folder / "train_history.json").write_text('{"epochs": [1]}')
    foreign = experiments[0].folder.parent / "exp1"
    foreign.mkdir()
    (foreign / "train_history.json").write_text('{"epochs": [1, 2], "total_loss": [0.5, 0.0]}')
    assert visualize_training.main(["--compare"]) == 0
    printed = capsys.readouterr()
    assert "skipped: " in printed.err and "lacks total_loss" in printed.err
    assert "recall of exp1: not measured: checkpoints/exp1: no latest_model.pth in it" in printed.err
    assert "exp1" in printed.out and experiments[0].id[:8] not in printed.out
    assert visualize_training.main(["--experiment_id", "exp1"]) == 0
    assert visualize_training.main(["--list"]) == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--experiment_id", "zz"], "no experiment 'zz' in checkpoints; there are"),
        (["--compare", "--experiments", "zz"], "no experiment 'zz' in checkpoints; there are"),
        (["--json"], "--json needs --list or --compare"),
        (["--experiments", "a"], "--experiments needs --compare"),
        (["--compare", "--experiment_id", "a"], "--compare takes --experiments ID ID ..., not --experiment_id"),
        (["--list", "--save", "a.png"], "--save does not go with --list"),
        (["--save", "a.txt"], "a.txt: a figure's name ends in .png, .pdf, .svg"),
        (["--save", "gone/a.png"], "gone/a.png: no folder gone to save it in"),
        (["--checkpoints-dir", "gone", "--list"], "no experiment in gone: train.py makes one"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(experiments, flags, message, capsys):
    assert visualize_training.main(flags) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith(f"visualize_training.py: {message}")
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("flags", [["--list", "--compare"], ["--no-recall", "--recall-history"], ["--experiments"]])
def test_flags_that_exclude_each_other(experiments, flags, capsys):
    with pytest.raises(SystemExit) as left:
        visualize_training.main(flags)
    assert left.value.code == 2 and capsys.readouterr().err.count("\n") == 1
