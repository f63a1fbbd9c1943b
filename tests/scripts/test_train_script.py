"""train.py as people run it: a process of its own in an empty folder, or main() where only its words matter."""

import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import ROOT

from dploss.commands import train
from dploss.data import open_vectors

SMALL = ("--latent-dim", 16, "--hidden-dims", 24, "--limit", 300, "--batch-size", 64)


@pytest.fixture
def main(tmp_path, monkeypatch, call):
    """train.main in an empty folder: main("--epochs", 1) -> exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    for variable in ("SAVE_INTERVAL", "DEVICE"):
        monkeypatch.delenv(variable, raising=False)

    def train_py(*flags: object) -> tuple[int, str, str]:
        done = call("train.py", *flags)
        return done.returncode, done.stdout, done.stderr

    return train_py


def experiments(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoints/[!.]*/"))


def losses(experiment: Path) -> list[list[float]]:
    history = json.loads((experiment / "train_history.json").read_text())
    return [history[name] for name in ("epochs", "total_loss", "rank_loss", "pairdist_loss", "recall_history")]


def test_a_person_trains_and_loads_the_model_in_a_notebook(run, tmp_path):
    done = run("train.py", "--epochs", 3, "--save-interval", 2, *SMALL, "--seed", 1)
    assert done.returncode == 0, done.stderr
    (experiment,) = experiments(tmp_path)
    names = {
        ".lock",
        "best.pt",
        "best_checkpoint_results.json",
        "best_checkpoints.json",
        "tensorboard_logs",
        "checkpoint_epoch_000.pth",
        "checkpoint_epoch_002.pth",
        "checkpoint_epoch_003.pth",
        "config.json",
        "latest_model.pth",
        "train_history.json",
    }
    assert {path.name for path in experiment.iterdir()} == names

    for said in (
        f"experiment         {experiment.name[:8]}\n",
        f"checkpoints/{experiment.name}\n",
        "builtin: 300 rows of 768",
        "DPLossV3",
        "tau=1,",
    ):
        assert said in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("epoch ")]
    assert len(lines) == 3 and all("total" in line and " s  ETA " in line for line in lines)
    assert "saved checkpoint_epoch_002.pth  recall@5" in done.stderr
    history = json.loads((experiment / "train_history.json").read_text())
    assert f"start {history['recall_history'][0]:.4f}, saved as checkpoint_epoch_000.pth" in done.stderr
    for name, recall in (("start", history["recall_history"][0]), ("PCA", history["pca_recall"])):
        assert f"{name} {recall:.4f}" in done.stdout
    assert f"PCA, renormalised {history['pca_renormalised_recall']:.4f}" in done.stdout
    assert done.stdout.splitlines()[-1] == f"checkpoints/{experiment.name}"
    assert "\r" not in done.stderr

    notebook = f"""
import sys, torch
checkpoint = torch.load("checkpoints/{experiment.name}/checkpoint_epoch_003.pth", weights_only=True)
assert not any(name.startswith("dploss") for name in sys.modules)
sys.path.insert(0, {str(ROOT)!r})
from dploss import DPEncoder
config = checkpoint["config"]
model = DPEncoder(config["input_dim"], config["hidden_dims"], config["latent_dim"])
optimizer = torch.optim.Adam(model.parameters())
model.load_state_dict(checkpoint["model_state_dict"])
optimizer.load_state_dict(checkpoint["optimizer_state_dict"])
print(checkpoint["epoch"], checkpoint["train_history"]["epochs"], model(torch.zeros(2, 768)).shape[1])
"""
    told = subprocess.run([sys.executable, "-c", notebook], cwd=tmp_path, capture_output=True, text=True)
    assert told.stdout == "3 [1, 2, 3] 16\n", told.stderr


def start(tmp_path: Path, *flags: object) -> subprocess.Popen:
    """A training left to itself, once its first epoch is over."""
    command = [sys.executable, str(ROOT / "train.py"), *map(str, flags), "--checkpoints-dir", "checkpoints"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    for _ in range(6000):
        if list(tmp_path.glob("checkpoints/*/latest_model.pth")):
            return process
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    raise AssertionError("no epoch in a minute")


LONG = ("--latent-dim", 16, "--hidden-dims", 24, "--limit", 2000, "--batch-size", 16, "--epochs", 6)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> list[list[float]]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert train.main([*map(str, LONG), "--checkpoints-dir", str(folder / "checkpoints")]) == 0
    return losses(*experiments(folder))


def test_killed_in_an_epoch_it_resumes_to_the_last_bit(call, tmp_path, uninterrupted):
    process = start(tmp_path, *LONG)
    time.sleep(0.1)
    process.kill()
    process.communicate()
    (experiment,) = experiments(tmp_path)
    finished = torch.load(experiment / "latest_model.pth", weights_only=True)["epoch"]
    assert finished < 6
    done = call("train.py", "--resume", experiment.name[:8])
    assert done.returncode == 0, done.stderr
    assert f"after epoch {finished}" in done.stderr
    assert losses(experiment) == uninterrupted
    assert not list(experiment.glob(".*.tmp"))


def test_ctrl_c_saves_says_how_to_resume_and_loses_no_step(call, tmp_path, uninterrupted):
    process = start(tmp_path, *LONG)
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=60)
    (experiment,) = experiments(tmp_path)
    assert process.returncode == 130, printed
    hint, resume = printed.splitlines()[-1].split(" train.py ")
    assert hint == "interrupted; resume with: uv run python" and resume == f"--resume {experiment.name[:8]}"
    assert json.loads((experiment / "train_history.json").read_text())["status"] == "interrupted"
    assert "Traceback" not in printed
    assert call("train.py", *resume.split()).returncode == 0
    assert losses(experiment) == uninterrupted


def test_save_interval_comes_from_the_environment_and_the_flag_wins(main, tmp_path, monkeypatch):
    monkeypatch.setenv("SAVE_INTERVAL", "2")
    assert main("--epochs", 3, *SMALL)[0] == 0
    assert len(list(tmp_path.glob("checkpoints/*/checkpoint_epoch_002.pth"))) == 1
    assert main("--epochs", 3, *SMALL, "--save-interval", 3, "--checkpoints-dir", "flag")[0] == 0
    assert [path.name for path in tmp_path.glob("flag/*/checkpoint_*[1-9].pth")] == ["checkpoint_epoch_003.pth"]
    monkeypatch.setenv("SAVE_INTERVAL", "often")
    assert main("--epochs", 1)[::2] == (
        2,
        "train.py: SAVE_INTERVAL in the environment must be a number, got 'often'\n",
    )
    monkeypatch.setenv("SAVE_INTERVAL", "0")
    assert main("--epochs", 1)[::2] == (2, "train.py: --save-interval must be at least 1, got 0\n")


def test_device_comes_from_the_environment(main, tmp_path, monkeypatch):
    monkeypatch.setenv("DEVICE", "abacus")
    code, _, error = main("--epochs", 1)
    assert code == 2 and "--device must be one of auto, cpu, cuda, mps, got 'abacus'" in error
    monkeypatch.setenv("DEVICE", "cpu")
    assert main("--epochs", 1, *SMALL)[0] == 0


def test_every_file_format_trains_alike(main, tmp_path):
    rows = open_vectors(limit=300).rows.astype(np.float64)
    np.save("rows.npy", rows)
    np.savez("rows.npz", rows)
    pq.write_table(pa.table({"emb": pa.array(rows.tolist(), pa.list_(pa.float64()))}), "rows.parquet")
    Path("rows.jsonl").write_text("".join(json.dumps({"embedding": row}) + "\n" for row in rows.tolist()))
    seen = []
    for name in ("rows.npy", "rows.npz", "rows.parquet", "rows.jsonl"):
        folder = tmp_path / name.replace(".", "-")
        code, _, error = main("--data", name, "--epochs", 2, *SMALL, "--checkpoints-dir", folder / "checkpoints")
        assert code == 0, error
        seen.append(losses(*experiments(folder)))
    assert seen[0] == seen[1] == seen[2] == seen[3]


def bad_files() -> dict[str, str]:
    """Write files that cannot be trained on; what the message must say of each."""
    rows = np.random.default_rng(0).normal(size=(40, 4))
    lists = rows.tolist()
    lists[17] = lists[17][:2]
    pq.write_table(pa.table({"emb": lists}), "ragged.parquet")
    rows[17, 1] = np.nan
    np.save("nan.npy", rows)
    np.save("objects.npy", rows.astype(object), allow_pickle=True)
    Path("empty.npz").touch()
    return {
        "nan.npy": "1 of 40 rows cannot be used (1 not finite); the first, row 17, has nan in dimension 1",
        "ragged.parquet": "1 of 40 rows cannot be used (1 of other dimensions); the first, row 17, has 2 dim",
        "objects.npy": "objects.npy: it holds Python objects",
        "empty.npz": "empty.npz: the file is empty",
        "missing.jsonl": "missing.jsonl: no such file",
    }


def test_bad_files_are_one_line_and_leave_nothing(main, tmp_path):
    cases = [(("--data", name), message) for name, message in bad_files().items()]
    cases.append((("--data", "ragged.parquet", "--column", "vec"), "ragged.parquet: no column 'vec'; there are emb"))
    for flags, message in cases:
        code, out, error = main(*flags)
        assert (code, out) == (2, "") and error.splitlines()[:-1] == [f"reading {flags[1]} ..."], error
        assert message in error.splitlines()[-1]
    assert not (tmp_path / "checkpoints").exists()


def test_a_bad_file_is_one_line_in_a_process_too(run, tmp_path):
    np.save(tmp_path / "nan.npy", np.full((40, 4), np.nan))
    done = run("train.py", "--data", "nan.npy")
    assert (done.returncode, done.stdout) == (2, "")
    progress, error = done.stderr.splitlines()
    rows = "40 of 40 rows cannot be used (40 not finite); the first, row 0, has nan in dimension 0 as float32"
    assert progress == "reading nan.npy ..." and error == f"train.py: nan.npy: {rows}"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--epochs", "many"], "argument --epochs: invalid int value: 'many'"),
        (["--epochs", -1], "--epochs must be at least 0, got -1"),
        (["--tau", "nan"], "--tau must be finite, got nan"),
        (["--min-delta", "much"], "argument --min-delta: must be a number or auto, got 'much'"),
        (["--min-delta", "-1"], "--min-delta must be at least 0, got -1.0"),
        (["--loss-function", "DPLossV9"], "invalid choice: 'DPLossV9'"),
        (["--latent-dim", 1000], "--latent-dim 1000 is above the 768 dimensions of the vectors"),
        (["--epoch", 3], "unrecognized arguments: --epoch 3; did you mean --epochs?"),
        (["--latent_dim=8"], "unrecognized arguments: --latent_dim=8; did you mean --latent-dim?"),
        (["--zzz"], "unrecognized arguments: --zzz (train.py --help"),
        (["--loss-function", "dploss2"], "; did you mean DPLossV2?"),
        (["--device", "gpu"], "invalid choice: 'gpu' (choose from auto, cpu, cuda, mps)"),
        (["--min-delta", "atuo"], "must be a number or auto, got 'atuo'; did you mean auto?"),
        (["--metric-name", "recal", "--limit", 100, "--batch-size", 16, "--quiet"], "; did you mean recall?"),
        (["--resume", "3f2a"], "no experiment in checkpoints: train.py makes one"),
        (["--resume", ""], "no experiment in checkpoints: train.py makes one"),
    ],
)
def test_bad_flags_are_one_line(main, flags, message, tmp_path):
    code, out, error = main(*flags)
    lines = [line for line in error.splitlines() if line != "reading builtin ..."]
    assert (code, out) == (2, "") and len(lines) == 1 and message in lines[0], error
    assert not (tmp_path / "checkpoints").exists()


def test_the_first_line_does_not_wait_for_torch(tmp_path):
    code = "import sys; sys.modules['torch'] = None; import train; train.main(['--limit', '300', '--epochs', '1'])"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stderr.startswith("reading builtin ...\nTraceback") and "import of torch halted" in done.stderr


def test_help_shows_every_flag_in_groups_with_examples(main):
    code, out, _ = main("--help")
    assert code == 0
    for group in ("data:", "encoder:", "loss:", "training:", "output:", "Examples:"):
        assert f"\n{group}\n" in out
    for flag in (
        "--epochs",
        "--save-interval",
        "--lambda-pairdist",
        "--hidden-dims",
        "--resume",
        "--val-fraction",
    ):
        assert flag in out
    assert "(default: 10; $SAVE_INTERVAL changes it)" in " ".join(out.split())


def test_quiet_prints_the_result_alone(main):
    code, out, error = main("--epochs", 1, *SMALL, "--quiet")
    assert code == 0 and error == "" and out.startswith("completed: 1 epoch in")


def test_no_hidden_dims_make_a_linear_encoder(main, tmp_path):
    assert main("--epochs", 1, "--limit", 300, "--batch-size", 64, "--latent-dim", 8, "--hidden-dims")[0] == 0
    (experiment,) = experiments(tmp_path)
    weights = torch.load(experiment / "latest_model.pth", weights_only=True)["model_state_dict"]
    assert sorted(weights) == ["length_power", "linear.bias", "linear.weight", "mean", "scale"]


def test_matryoshka_prints_every_size(main):
    code, out, error = main("--epochs", 1, *SMALL[2:], "--matryoshka-dims", "8,16", "32")
    assert code == 0 and "matryoshka_dims=8 16 32" in error and "latent_dim=32" in error
    assert [line.split(":")[0] for line in out.splitlines()[-4:-1]] == [
        f"first {dim} dimensions" for dim in (8, 16, 32)
    ]


def test_a_target_recall_is_reached_by_the_smallest_size(main, tmp_path):
    code, out, error = main("--epochs", 1, *SMALL[2:], "--target-recall", 0.8, "--quiet")
    (experiment,) = experiments(tmp_path)
    size = json.loads((experiment / "config.json").read_text())["latent_dim"]
    title, header, *lines = out.splitlines()
    assert title == "held-out recall on 30 rows, target 0.8" and header.split() == [
        "dimensions",
        "recall@5",
        "gain",
        "over",
    ]
    trials = [line.split() for line in lines[: lines.index(next(one for one in lines if one.startswith("completed")))]]
    # In the order of sizes, and the smallest that reaches the target is the one that was taken.
    assert code == 0 and len(trials) > 1 and [int(one[0]) for one in trials] == sorted(int(one[0]) for one in trials)
    assert next(one[0] for one in trials if one[-1] == "target") == str(size)
    assert all((float(one[1]) >= 0.8) == (one[-3:] == ["reaches", "the", "target"]) for one in trials)
    assert out.splitlines()[-1] == f"checkpoints/{experiment.name}"
    assert error.startswith("the sizes that were not taken are in checkpoints/.target-recall-")
    for flag, value in (("--latent-dim", 8), ("--resume", experiment)):
        code, _, error = main("--target-recall", 0.8, flag, value)
        assert code == 2 and f"leave {flag} out" in error


def test_a_folder_that_cannot_be_written_is_one_line(main, tmp_path):
    (tmp_path / "checkpoints").touch()
    code, _, error = main("--epochs", 1, *SMALL, "--quiet")
    assert (code, error) == (
        2,
        "train.py: checkpoints: nothing can be saved there (Not a directory); name another folder\n",
    )


def test_two_trainings_in_one_folder_never_meet(main, tmp_path):
    for seed in (1, 2):
        assert main("--epochs", 1, *SMALL, "--seed", seed, "--quiet")[0] == 0
    assert len(experiments(tmp_path)) == 2


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal, which Windows lacks")
def test_a_terminal_gets_a_bar(tmp_path):
    import fcntl
    import pty
    import termios

    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    command = [sys.executable, str(ROOT / "train.py"), "--epochs", "1", *map(str, SMALL)]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=follower)
    os.close(follower)
    printed = b""
    while chunk := read_terminal(leader):
        printed += chunk
    assert process.wait() == 0
    assert b"epoch 1/1:" in printed and b"step/s" in printed


def read_terminal(leader: int) -> bytes:
    """Linux raises EIO where the last process has left the terminal."""
    try:
        return os.read(leader, 4096)
    except OSError:
        return b""
