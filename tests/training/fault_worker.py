"""Kill, starve and resume real trainings, one forked process each; run by test_faults.py in an empty folder.

    fault_worker.py kill N SEED     N trainings killed with SIGKILL at random instants
    fault_worker.py die N SEED      N trainings that die at the start, or in the middle, of a file operation
    fault_worker.py full N SEED     N trainings in which a file operation finds the disk full

Prints a JSON object of counts; a promise that does not hold is an AssertionError.
"""

import contextlib
import errno
import hashlib
import io
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import tensorboard.summary.writer.record_writer  # noqa: E402, F401
import torch  # noqa: E402

# The first optimizer loads it, seconds: once here, not in every fork.
import torch._dynamo  # noqa: E402

import dploss.files.atomic  # noqa: E402
import dploss.training.launch  # noqa: E402
from dploss.commands import train  # noqa: E402
from dploss.experiments.checkpoints import load_checkpoint  # noqa: E402
from dploss.experiments.history import TrainHistory  # noqa: E402
from dploss.experiments.layout import load_config  # noqa: E402

FLAGS = (
    *("--data", "rows.npy", "--latent-dim", "4", "--hidden-dims", "8", "--batch-size", "64", "--epochs", "4"),
    *(
        "--save-interval",
        "1",
        "--save-top-k",
        "1",
        "--prune",
        "--keep-every-n-steps",
        "0",
        "--quiet",
        "--device",
        "cpu",
    ),
)
PRINTED = Path("printed")


def forked(flags: Sequence[str], before: Callable[[], None] = lambda: None) -> int:
    """Start train.py in a process of its own; returns its number."""
    process = os.fork()
    if process:
        return process
    code = 99
    try:
        with open(PRINTED, "w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        before()
        code = train.main(flags)
    except SystemExit as stop:
        code = stop.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


def finished(process: int) -> int:
    """Wait for a process: its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def run(*flags: str) -> None:
    """Train to the end."""
    code = finished(forked(flags))
    assert code == 0, f"exit code {code}: {PRINTED.read_text()}"


def losses(folder: Path) -> list[list[float]]:
    """What a training's history holds, but for times."""
    history = TrainHistory.load(folder / "train_history.json")
    assert history.status == "completed"
    return [history.epochs, history.total_loss, history.rank_loss, history.pairdist_loss, history.recall_history]


def experiment(checkpoints: Path) -> Path | None:
    """The one experiment in a folder; None where it has no config.json yet."""
    folders = [path.parent for path in checkpoints.glob("*/config.json")]
    assert len(folders) <= 1
    return folders[0] if folders else None


def check_whole(folder: Path) -> None:
    """Every file that has its own name can be read; only temporary ones may be cut short."""
    load_config(folder)
    for path in folder.iterdir():
        if path.name.endswith(".tmp"):
            continue
        if path.suffix in (".pth", ".pt"):
            load_checkpoint(path)
        elif path.name == "train_history.json":
            TrainHistory.load(path)
        elif path.suffix == ".json":
            json.loads(path.read_text())
        else:
            assert path.name in (".lock", "tensorboard_logs"), path


def digest(folder: Path) -> str:
    """Of all names, contents and times in a folder."""
    paths = sorted(folder.rglob("*"))
    parts = [(str(path), path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"") for path in paths]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


class Faults:
    """Counts writes, fsyncs, renames, links and removals, and lets one of them fail.

    Args:
        number: which, from 0; None: none.
        kind: "die", half of the writes half done; or "full", writes and fsyncs find no space from then on.
    """

    def __init__(self, number: int | None, kind: str) -> None:
        self.number, self.kind = number, kind
        self.met: list[str] = []

    def install(self) -> None:
        """Stand between the package and the system."""
        faults = self

        class File(io.BufferedWriter):
            def __init__(self, path: Path, mode: str) -> None:
                super().__init__(io.FileIO(path, mode))

            def write(self, data: bytes) -> int:
                faults.meet("write", lambda: (super(File, self).write(bytes(data)[: len(data) // 2]), self.flush()))
                return super().write(data)

        dploss.files.atomic.open = File
        for name in ("fsync", "replace", "symlink", "unlink"):
            setattr(os, name, self.watched(name, getattr(os, name)))

    def watched(self, name: str, call: Callable) -> Callable:
        """The call, met by the fault when its turn has come."""

        def watching(*args: object, **named: object) -> object:
            self.meet(name)
            return call(*args, **named)

        return watching

    def meet(self, name: str, half: Callable[[], object] = lambda: None) -> None:
        """Let the operation go on, or not."""
        self.met.append(name)
        if self.number is None or len(self.met) <= self.number:
            return
        if self.kind == "full":
            if name == "unlink":
                return
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self.number % 2:
            half()
        os.kill(os.getpid(), signal.SIGKILL)


def operations() -> dict[str, list[int]]:
    """The numbers of the writes, of the fsyncs ... that an undisturbed training does."""
    faults = Faults(None, "die")

    def report() -> None:
        faults.install()
        train.main([*FLAGS, "--checkpoints-dir", "counted"])
        Path("operations").write_text("\n".join(faults.met))
        os._exit(0)

    assert finished(forked((), report)) == 0, PRINTED.read_text()
    names = Path("operations").read_text().split()
    return {name: [number for number, one in enumerate(names) if one == name] for name in sorted(set(names))}


def main(kind: str, number: int, seed: int) -> Counter:
    """Disturb `number` trainings, and see that each can be finished as if it had not been."""
    draw = random.Random(seed)
    np.save("rows.npy", np.random.RandomState(0).normal(size=(320, 12)).astype(np.float32))
    run(*FLAGS, "--checkpoints-dir", "whole")
    start = time.perf_counter()
    run(*FLAGS, "--checkpoints-dir", "timed")
    seconds = time.perf_counter() - start
    expected = losses(experiment(Path("whole")))
    before = digest(Path("whole"))
    numbers = operations() if kind != "kill" else {}
    counts = Counter({name: len(found) for name, found in numbers.items()})
    trials = count()
    while counts["equal"] < number:
        checkpoints = Path(f"trial_{next(trials)}")
        flags = [*FLAGS, "--checkpoints-dir", str(checkpoints)]
        disturbances = 0
        while True:
            start = time.perf_counter()
            if kind == "kill":
                process = forked(flags)
                time.sleep(draw.uniform(0, seconds))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            else:
                process = forked(flags, Faults(draw.choice(numbers[draw.choice([*numbers])]), kind).install)
            code = finished(process)
            printed = PRINTED.read_text()
            assert "Traceback" not in printed, printed
            counts[f"exit {code}"] += 1
            if kind == "full" and code:
                assert code == 1 and "No space left on device" in printed.splitlines()[-1], printed
            folder = experiment(checkpoints)
            if folder is None:
                disturbances += 1
                break
            check_whole(folder)
            counts["whole"] += 1
            disturbances += code != 0
            # Some are disturbed again, while they go on.
            if draw.random() < 0.7 or code == 0:
                break
            flags = ["--resume", str(folder), "--quiet"]
        if not disturbances:
            # It was faster than its killer, who will hurry: the machine may have been busier before.
            seconds = min(seconds, time.perf_counter() - start)
            continue
        if folder is None:
            run(*flags)
            folder = experiment(checkpoints)
        elif code:
            code = finished(forked(["--resume", str(folder), "--quiet"]))
            printed = PRINTED.read_text()
            assert code == 0 or "has its 4 epochs" in printed, printed
        assert losses(folder) == expected
        assert not list(folder.rglob("*.tmp"))
        check_whole(folder)
        counts["equal"] += 1
    assert digest(Path("whole")) == before, "another experiment was touched"
    return counts


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
