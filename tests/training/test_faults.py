"""Trainings that are killed, starved of disk space, or started twice: nothing they made is lost."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT

from dploss.cli.main import interrupt_flag
from dploss.config import TrainConfig
from dploss.errors import InputError, TrainingError
from dploss.experiments.catalog import open_experiment
from dploss.experiments.checkpoints import load_checkpoint
from dploss.files.locks import was_abandoned
from dploss.training.launch import new_experiment, resumed_experiment

pytestmark = [pytest.mark.faults, pytest.mark.skipif(os.name == "nt", reason="needs fork and SIGKILL")]
TESTS = Path(__file__).parent
SMALL = ("--limit", "600", "--latent-dim", "8", "--hidden-dims", "16", "--batch-size", "32", "--quiet")


def disturbed(folder: Path, kind: str, number: int) -> dict[str, int]:
    """What fault_worker.py counts."""
    command = [sys.executable, str(TESTS / "fault_worker.py"), kind, str(number), "0"]
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, **one_thread})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def start(folder: Path, *flags: str) -> subprocess.Popen:
    """train.py in the background."""
    command = [sys.executable, str(ROOT / "train.py"), *flags]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def small(folder: Path) -> TrainConfig:
    """A training of an instant: 4 epochs of 4 steps."""
    sizes = {"limit": 72, "latent_dim": 4, "hidden_dims": (8,), "batch_size": 16, "epochs": 4, "k": 3}
    return TrainConfig(**sizes, checkpoints_dir=str(folder), quiet=True)


def wait_for(folder: Path, pattern: str) -> Path:
    """The first path that matches, as soon as there is one."""
    for _ in range(3000):
        found = next(folder.glob(pattern), None)
        if found is not None:
            return found
        time.sleep(0.02)
    raise AssertionError(f"no {pattern} in {folder}")


def test_killed_at_any_instant_every_file_is_whole_and_resuming_ends_as_if_undisturbed(tmp_path, request):
    kills = request.config.getoption("--kills")
    counts = disturbed(tmp_path, "kill", kills)
    assert counts["exit -9"] >= kills and counts["equal"] == kills


def test_dead_at_any_file_operation_every_file_is_whole_and_resuming_ends_as_if_undisturbed(tmp_path, request):
    kills = request.config.getoption("--kills")
    counts = disturbed(tmp_path, "die", kills)
    assert counts["exit -9"] >= kills and counts["equal"] == kills
    assert all(counts[name] > 0 for name in ("write", "fsync", "replace", "symlink", "unlink"))


def test_a_full_disk_is_one_line_and_costs_nothing_that_was_saved(tmp_path, request):
    kills = request.config.getoption("--kills")
    counts = disturbed(tmp_path, "full", kills)
    assert counts["exit 1"] >= kills and counts["equal"] == kills


def test_a_file_that_may_not_grow_is_one_line_too(tmp_path):
    """The system itself refuses here, beneath torch's writer."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), "--epochs", "2", *SMALL],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()
    assert "File too large" in line and "checkpoint_epoch_000.pth" in line and line.endswith("; nothing was saved")
    (experiment,) = (tmp_path / "checkpoints").iterdir()
    assert json.loads((experiment / "train_history.json").read_text())["status"] == "failed"
    assert not list(experiment.glob(".*.tmp"))


def test_a_second_process_cannot_resume_what_is_trained(tmp_path):
    training = start(tmp_path, "--epochs", "5000", *SMALL)
    experiment = wait_for(tmp_path, "checkpoints/*/latest_model.pth").parent
    try:
        assert open_experiment(experiment).history.status == "running"
        with pytest.raises(InputError, match="another process is training this experiment"):
            resumed_experiment(str(experiment), {})
    finally:
        training.kill()
        training.communicate()
    assert was_abandoned(experiment)
    assert json.loads((experiment / "train_history.json").read_text())["status"] == "running"
    assert open_experiment(experiment).history.status == "interrupted"
    finished = len(open_experiment(experiment).history.epochs)
    going_on = resumed_experiment(str(experiment), {"epochs": finished + 2, "quiet": True})
    assert going_on.run().status == "completed"


def test_one_process_cannot_resume_an_experiment_twice(tmp_path):
    first = new_experiment(small(tmp_path))
    first.run()
    folder = str(first.folder)
    going_on = resumed_experiment(folder, {"epochs": 6})
    with pytest.raises(InputError, match="another process"):
        resumed_experiment(folder, {"epochs": 6})
    going_on.run()
    assert resumed_experiment(folder, {"epochs": 7}).run().epochs[-1] == 7


def test_sigterm_is_ctrl_c(tmp_path):
    training = start(tmp_path, "--epochs", "5000", *SMALL)
    experiment = wait_for(tmp_path, "checkpoints/*/latest_model.pth").parent
    training.send_signal(signal.SIGTERM)
    _, printed = training.communicate(timeout=60)
    assert training.returncode == 130 and "interrupted; resume with" in printed and "Traceback" not in printed
    assert json.loads((experiment / "train_history.json").read_text())["status"] == "interrupted"


def test_a_second_ctrl_c_stops_at_once_and_costs_nothing_that_was_saved(tmp_path):
    run = new_experiment(small(tmp_path))

    def twice() -> bool:
        if run.trainer.epoch == 2:
            os.kill(os.getpid(), signal.SIGINT)
            assert asked()
            os.kill(os.getpid(), signal.SIGINT)
        return False

    with interrupt_flag() as asked, pytest.raises(KeyboardInterrupt):
        run.run(twice)
    assert open_experiment(run.folder).history.status == "interrupted"
    expected = new_experiment(small(tmp_path)).run()
    assert resumed_experiment(str(run.folder), {}).run().total_loss == expected.total_loss


def test_two_trainings_at_once_in_one_folder_end_as_each_alone(tmp_path):
    together = [start(tmp_path, "--epochs", "3", *SMALL) for _ in range(2)]
    for training in together:
        training.communicate(timeout=120)
        assert training.returncode == 0
    sizes = {"limit": 600, "latent_dim": 8, "hidden_dims": (16,), "batch_size": 32, "epochs": 3}
    alone = new_experiment(TrainConfig(**sizes, checkpoints_dir=str(tmp_path / "alone"), quiet=True)).run()
    folders = list((tmp_path / "checkpoints").iterdir())
    assert len(folders) == 2
    for folder in folders:
        assert open_experiment(folder).history.total_loss == pytest.approx(alone.total_loss, rel=1e-5)


@pytest.mark.parametrize("where", ["gradient", "loss", "rows"])
def test_what_is_not_finite_stops_the_training_and_is_not_saved(tmp_path, where):
    run = new_experiment(small(tmp_path))
    run.run(lambda: run.trainer.step == 6)
    run = resumed_experiment(str(run.folder), {})
    before = (run.folder / "latest_model.pth").read_bytes()
    if where == "gradient":
        next(run.encoder.parameters()).register_hook(lambda gradient: gradient * float("nan"))
    elif where == "loss":
        objective = run.trainer.objective
        run.trainer.objective = lambda x, z: objective(x, z)._replace(total=z.sum() * float("inf"))
    else:
        run.trainer.rows[:] = 3e38
    with pytest.raises(
        TrainingError, match=r"NaN or infinite at epoch \d, step \d; lower lr \(try 0.0001\)"
    ) as failure:
        run.run()
    assert "this batch is within" in str(failure.value) or where == "gradient"
    assert open_experiment(run.folder).history.status == "failed"
    assert (run.folder / "latest_model.pth").read_bytes() == before
    assert load_checkpoint(run.folder / "latest_model.pth")["step"] == 6
