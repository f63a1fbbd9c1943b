import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# All training rows in one batch: an epoch is a step, and the history has the loss of every step.
SETTINGS = ("--limit", "600", "--batch-size", "540", "--latent-dim", "32", "--no-tensorboard", "--quiet")


def start(processes: int, *args: str) -> subprocess.Popen:
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)] if processes > 1 else []
    # Nothing but the loopback is needed, and torchrun chooses a free port.
    launcher += ["--standalone"] if launcher else []
    return subprocess.Popen(
        [sys.executable, *launcher, str(ROOT / "train.py"), *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def train(processes: int, *args: str) -> None:
    process = start(processes, *args)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


def only_history(folder: Path) -> dict:
    (experiment,) = (path for path in folder.iterdir() if (path / "config.json").exists())
    return json.loads((experiment / "train_history.json").read_text())


def test_two_processes_train_as_one_does_and_resume(tmp_path):
    for processes in (1, 2):
        train(processes, *SETTINGS, "--epochs", "20", "--checkpoints-dir", str(tmp_path / str(processes)))
    one, two = (only_history(tmp_path / str(processes)) for processes in (1, 2))
    assert len(one["total_loss"]) == 20
    for name in ("total_loss", "rank_loss", "pairdist_loss"):
        # Dropout too is that of one process: without that the losses differ by percents.
        assert two[name] == pytest.approx(one[name], rel=1e-4)
    assert two["recall_history"] == pytest.approx(one["recall_history"], abs=0.02)

    (experiment,) = (tmp_path / "2").iterdir()
    train(2, "--resume", str(experiment), "--epochs", "24", "--quiet")
    (other,) = (tmp_path / "1").iterdir()
    train(1, "--resume", str(other), "--epochs", "24", "--quiet")
    one, two = (only_history(tmp_path / str(processes)) for processes in (1, 2))
    assert len(one["total_loss"]) == 24
    assert two["total_loss"] == pytest.approx(one["total_loss"], rel=1e-4)


def test_a_stop_reaches_all_processes_and_loses_nothing(tmp_path):
    process = start(2, *SETTINGS, "--epochs", "100000", "--save-interval", "100000", "--checkpoints-dir", str(tmp_path))
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("*/latest_model.pth")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    history = only_history(tmp_path)
    assert history["status"] == "interrupted"
    (experiment,) = tmp_path.iterdir()
    done = len(history["epochs"])
    train(2, "--resume", str(experiment), "--epochs", str(done + 2), "--quiet")
    assert len(only_history(tmp_path)["epochs"]) == done + 2


def test_what_several_processes_cannot_do_is_refused_in_a_line(tmp_path):
    for flags in (["--images", "builtin"], ["--target-recall", "0.9"], ["--batch-size", "3", "--limit", "600"]):
        process = start(2, *flags, "--checkpoints-dir", str(tmp_path))
        _, errors = process.communicate(timeout=120)
        assert process.returncode
        assert f"train.py: {flags[0]}" in errors
        assert not list(tmp_path.iterdir())
