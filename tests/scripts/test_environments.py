"""Names that are not UTF-8, locales and interpreters of all kinds, folders that cannot be written."""

import json
import os
import subprocess
import sys

import numba
import numpy as np
import pytest
from conftest import ROOT

from dploss.commands import encode, test, train
from dploss.files.kernel_cache import kernel
from dploss.tracking.tracker import BestCheckpointTracker

SMALL = ("--epochs", "1", "--latent-dim", "4", "--hidden-dims", "8", "--batch-size", "32", "--quiet")
NOT_UTF8 = os.fsdecode(b"caf\xe9")
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture
def rows(tmp_path):
    """A file of rows whose name is Korean."""
    values = np.random.default_rng(0).normal(size=(100, 8)).astype(np.float32)
    np.save(tmp_path / "벡터.npy", values)
    return tmp_path / "벡터.npy"


@pytest.fixture
def run_in(tmp_path):
    """Run a script in an environment; what it prints are bytes."""

    def run(script, *argv, python=(), **environment):
        command = [sys.executable, *python, str(ROOT / script), *argv]
        return subprocess.run(command, cwd=tmp_path, env={**os.environ, **environment}, capture_output=True)

    return run


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names are Unicode there")
def test_names_that_are_not_utf8(rows, tmp_path, monkeypatch, capfdbinary):
    monkeypatch.chdir(tmp_path)
    rows.rename(f"{NOT_UTF8}.npy")
    assert train.main(["--data", f"{NOT_UTF8}.npy", "--checkpoints-dir", NOT_UTF8, *SMALL]) == 0
    (folder,) = (tmp_path / NOT_UTF8).iterdir()
    printed = capfdbinary.readouterr()
    assert printed.out.endswith(os.fsencode(f"{NOT_UTF8}/{folder.name}\n")) and printed.err == b""
    # The record is JSON of UTF-8, and leads back to the file.
    record = json.loads((folder / "config.json").read_bytes())
    assert os.path.samefile(record["data"]["path"], f"{NOT_UTF8}.npy")

    assert test.main(["--checkpoints-dir", NOT_UTF8, "--k", "1", "--json"]) == 0
    assert json.loads(capfdbinary.readouterr().out.decode())["rows"] == 10
    encoding = [f"{NOT_UTF8}.npy", f"{NOT_UTF8}.parquet", "--checkpoints-dir", NOT_UTF8, "--quiet"]
    assert encode.main(encoding) == 0
    assert capfdbinary.readouterr() == (os.fsencode(f"{NOT_UTF8}.parquet\n"), b"")
    assert test.main(["--encoded", f"{NOT_UTF8}.parquet", "--k", "1", "--rows", "30"]) == 0


def test_an_ascii_locale(rows, run_in):
    trained = run_in("train.py", "--data", os.fsencode("벡터.npy"), *SMALL, **ASCII)
    assert (trained.returncode, trained.stderr) == (0, b"")
    listed = run_in("visualize_training.py", "--list", **ASCII, PYTHONIOENCODING="ascii")
    assert listed.returncode == 0 and listed.stdout.isascii()


@pytest.mark.parametrize("script", ["train.py", "test.py", "encode.py", "quick_plot.py", "visualize_training.py"])
def test_an_interpreter_that_drops_docstrings_has_help(script, run_in):
    shown = run_in(script, "--help", python=["-OO"])
    assert (shown.returncode, shown.stderr) == (0, b"") and shown.stdout.startswith(f"usage: {script}".encode())


def test_where_nothing_can_be_saved_nothing_is_read(rows, tmp_path, call, monkeypatch):
    def read(*_):
        raise AssertionError("the data were read")

    monkeypatch.setattr("dploss.training.launch.open_data", read)
    (tmp_path / "file").touch()
    done = call("train.py", "--data", rows, "--checkpoints-dir", "file/checkpoints", *SMALL)
    reason = "nothing can be saved there (Not a directory); name another folder"
    assert (done.returncode, done.stderr) == (2, f"train.py: file/checkpoints: {reason}\n")
    if os.geteuid():
        (tmp_path / "locked").mkdir(mode=0o555)
        done = call("train.py", "--data", rows, "--checkpoints-dir", "locked/checkpoints", *SMALL)
        assert (done.returncode, "Permission denied" in done.stderr) == (2, True)


def test_compiled_loops_run_where_their_cache_cannot_be_written(monkeypatch):
    def no_place(*_):
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(numba.core.dispatcher.Dispatcher, "enable_caching", no_place)

    @kernel(error_model="numpy")
    def doubled(value):
        return 2 * value

    assert doubled(21) == 42


def test_a_tracker_keeps_its_folder_when_the_process_leaves_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tracker = BestCheckpointTracker("run", metric_name="loss", save_top_k=1, keep_every_n_steps=0)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for step, loss in enumerate((3.0, 1.0, 2.0)):
        (tmp_path / "run" / f"{step}.pt").write_bytes(b"weights")
        tracker.update(step, 0, tracker.checkpoint_dir / f"{step}.pt", {"loss": loss})
    assert (tmp_path / "run" / "best.pt").resolve().name == "1.pt"
    assert sorted(path.name for path in (tmp_path / "run").glob("[0-9].pt")) == ["1.pt", "2.pt"]
    assert not list((tmp_path / "elsewhere").iterdir())
