"""What several tests need: real rows, the scripts as a person runs them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

# Before torch is there: tests run side by side, and a thread for each of them is fastest.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numba
import numpy as np
import pytest
from hypothesis import settings

from dploss.config import TrainConfig
from dploss.data import open_vectors
from dploss.training.launch import new_experiment

ROOT = Path(__file__).resolve().parents[1]

# No test asserts on seconds, and a run repeats itself.
settings.register_profile("dploss", deadline=None, derandomize=True)
settings.load_profile("dploss")

# Where this is set, every process would compile torch anew: 9 s to start instead of 3.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

Run = Callable[..., subprocess.CompletedProcess]


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long the tests marked `faults` are to take."""
    parser.addoption(
        "--kills",
        type=int,
        default=8,
        help="trainings to kill, and to track (default: 8; 500 take minutes)",
    )
    parser.addoption("--mutations", type=int, default=30, help="damaged files for each reader (default: 30)")


@pytest.fixture(scope="session", autouse=True)
def one_thread_for_compiled_loops() -> None:
    """As for torch above: threads of several processes on few cores wait for each other."""
    numba.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def no_second_for_the_speed() -> Iterator[None]:
    """test.py encodes for a second to say how fast that is; here a moment will do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dploss.evaluation.scores.TIMED_SECONDS", 0.01)
        yield


@pytest.fixture(scope="session")
def builtin() -> np.ndarray:
    """The first 600 built-in rows, (600, 768) float32."""
    return open_vectors(limit=600).rows


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """A folder of three real experiments of different losses, 4 epochs each with 2 checkpoints; not to be changed."""
    folder = tmp_path_factory.mktemp("trained") / "checkpoints"
    small = {"limit": 400, "latent_dim": 16, "hidden_dims": (32,), "epochs": 4, "save_interval": 2, "batch_size": 128}
    for loss in ("DPLossV1", "DPLossV2", "DPLossV2Norm"):
        new_experiment(TrainConfig(loss_function=loss, checkpoints_dir=str(folder), quiet=True, **small)).run()
    return folder


@pytest.fixture
def checkpoints(trained, tmp_path) -> Path:
    """A copy of the three experiments, in the folder that scripts run in, under its usual name."""
    return shutil.copytree(trained, tmp_path / "checkpoints")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a script of the root in an empty folder: run("train.py", "--epochs", 1)."""

    def run_script(script: str, *flags: object) -> subprocess.CompletedProcess:
        command = [sys.executable, str(ROOT / script), *map(str, flags)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)

    return run_script


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Run:
    """`run` without the seconds that a process takes to start: main() of a script, in this one."""

    def call_script(script: str, *flags: object) -> subprocess.CompletedProcess:
        monkeypatch.chdir(tmp_path)
        argv = [str(flag) for flag in flags]
        try:
            code = import_module(script.removesuffix(".py")).main(argv)
        except SystemExit as leaving:
            code = leaving.code
        printed = capsys.readouterr()
        return subprocess.CompletedProcess([script, *argv], code, printed.out, printed.err)

    return call_script


@pytest.fixture
def terminal(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Run a script of the root as a person at a terminal does: terminal("2\\n", "visualize_training.py", ...).

    The terminal has 80 columns, or `width`. Returns the exit code and all that it shows.
    """
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")

    def run_script(typed: str, script: str, *flags: object, width: int = 80) -> tuple[int, str]:
        person, screen = pty.openpty()
        termios.tcsetwinsize(screen, (40, width))
        command = [sys.executable, str(ROOT / script), *map(str, flags)]
        environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
        process = subprocess.Popen(
            command, cwd=tmp_path, stdin=screen, stdout=screen, stderr=screen, env=environment, start_new_session=True
        )
        os.close(screen)
        os.write(person, typed.encode())
        shown = b""
        try:
            while chunk := os.read(person, 4096):
                shown += chunk
        except OSError:
            # Linux says so when the other side is closed.
            pass
        finally:
            os.close(person)
        return process.wait(timeout=300), shown.decode().replace("\r\n", "\n")

    return run_script


def assets() -> Path:
    """The folder of real weights and data that some tests need; they skip where it is not."""
    folder = Path(os.environ.get("DPLOSS_TEST_ASSETS", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no {folder}: real weights are needed (DPLOSS_TEST_ASSETS says where they are)")
    return folder
