import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from dploss.data import open_vectors
from dploss.training import start as training_start
from dploss.training.distributed import ProcessGroup

# All training rows in one batch: an epoch is a step, and the history has the loss of every step.
SETTINGS = ("--limit", "600", "--batch-size", "540", "--latent-dim", "32", "--no-tensorboard", "--quiet")


def start(*args: str) -> subprocess.Popen:
    # Nothing but the loopback is needed, and torchrun chooses a free port.
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.Popen(
        [sys.executable, *launcher, str(ROOT / "train.py"), *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def train(*args: str) -> None:
    """With two processes."""
    process = start(*args)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


def only_history(folder: Path) -> dict:
    (experiment,) = (path for path in folder.iterdir() if (path / "config.json").exists())
    return json.loads((experiment / "train_history.json").read_text())


def test_two_processes_train_as_one_does_and_resume(call, tmp_path):
    settings = [*SETTINGS, "--epochs", "20", "--checkpoints-dir"]
    train(*settings, str(tmp_path / "2"))
    assert call("train.py", *settings, tmp_path / "1").returncode == 0
    one, two = (only_history(tmp_path / processes) for processes in "12")
    assert len(one["total_loss"]) == 20
    for name in ("total_loss", "rank_loss", "pairdist_loss"):
        # Dropout too is that of one process: without that the losses differ by percents.
        assert two[name] == pytest.approx(one[name], rel=1e-4)
    assert two["recall_history"] == pytest.approx(one["recall_history"], abs=0.02)

    (experiment,) = (tmp_path / "2").iterdir()
    train("--resume", str(experiment), "--epochs", "24", "--quiet")
    (other,) = (tmp_path / "1").iterdir()
    assert call("train.py", "--resume", other, "--epochs", "24", "--quiet").returncode == 0
    one, two = (only_history(tmp_path / processes) for processes in "12")
    assert len(one["total_loss"]) == 24
    assert two["total_loss"] == pytest.approx(one["total_loss"], rel=1e-4)


def test_queries_are_trained_by_two_processes_as_by_one(call, tmp_path):
    # Half are held out, and two processes share the other 50.
    np.save(tmp_path / "queries.npy", open_vectors(limit=700).rows[601:])
    settings = [*SETTINGS, "--queries", str(tmp_path / "queries.npy"), "--query-side", "own", "--epochs", "4"]
    settings += ["--hidden-dims", "32", "--checkpoints-dir"]
    train(*settings, str(tmp_path / "2"))
    assert call("train.py", *settings, tmp_path / "1").returncode == 0
    one, two = (only_history(tmp_path / processes) for processes in "12")
    assert len(one["total_loss"]) == 4 and one["recall_queries"] == 49
    for name in ("total_loss", "rank_loss", "pairdist_loss"):
        assert two[name] == pytest.approx(one[name], rel=1e-4)


def test_a_stop_reaches_all_processes_and_loses_nothing(call, tmp_path):
    process = start(*SETTINGS, "--epochs", "100000", "--save-interval", "100000", "--checkpoints-dir", str(tmp_path))
    deadline = time.monotonic() + 60
    # The start is there before all processes are.
    while not (list(tmp_path.glob("*/train_history.json")) and only_history(tmp_path)["epochs"]):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    history = only_history(tmp_path)
    assert history["status"] == "interrupted"
    (experiment,) = tmp_path.iterdir()
    done = len(history["epochs"])
    # By another number of processes than before.
    assert call("train.py", "--resume", experiment, "--epochs", done + 2, "--quiet").returncode == 0
    assert len(only_history(tmp_path)["epochs"]) == done + 2


def test_what_several_processes_cannot_do_is_refused_in_a_line(call, tmp_path, monkeypatch):
    # What torchrun tells the first of two, which waits for no other here.
    for name, value in {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "2", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(training_start, "join_process_group", lambda device: ProcessGroup(0, 2))
    for flags in (["--images", "builtin"], ["--target-recall", "0.9"], ["--batch-size", "3", "--limit", "600"]):
        done = call("train.py", *flags)
        *progress, error = done.stderr.splitlines()
        assert done.returncode == 2 and error.startswith(f"train.py: {flags[0]}"), done.stderr
        assert progress in ([], ["reading builtin ..."])
    assert not list(tmp_path.iterdir())
