"""Flags a person could mistype, and rows that are unlike any embedding: trained, or refused in one line."""

import math

import numpy as np
import pytest
import torch

from dploss.cli.main import Parser
from dploss.cli.main import run as run_action
from dploss.commands import plot as quick_plot
from dploss.commands import test, train
from dploss.commands import visualize as visualize_training
from dploss.config import OPTIONS, flag_name
from dploss.experiments.history import TrainHistory

pytestmark = pytest.mark.faults
SMALL = ("--latent-dim", "4", "--hidden-dims", "8", "--batch-size", "16", "--epochs", "2", "--k", "3", "--quiet")
NONSENSE = ("-1", "nan", "1e400", "9" * 30, "1" + "0" * 400, "", "abc", "0.5.5", "1,,x", "²", "\x1b[2J", "../..")
FLAGS = [
    *((train, flag_name(name)) for name, one in OPTIONS.items() if one.kind is not bool),
    *((train, flag) for flag in ("--resume", "--target-recall")),
    *((test, flag) for flag in ("--experiment_id", "--checkpoint", "--data", "--rows", "--k", "--neighbours")),
    *((quick_plot, flag) for flag in ("--experiment_id", "--save")),
    *((visualize_training, flag) for flag in ("--experiment_id", "--save", "--checkpoints-dir")),
]
RNG = np.random.default_rng(0)
NORMAL = RNG.normal(size=(60, 8))
ROWS = {
    "constant": np.ones((60, 8)),
    "zero": np.zeros((60, 8)),
    "in two places": np.repeat(NORMAL[:2], 30, axis=0),
    "thrice": np.repeat(NORMAL[:20], 3, axis=0),
    "all equally far": np.eye(60),
    "one zero row": np.vstack([np.zeros((1, 8)), NORMAL[1:]]),
    "of one number": NORMAL[:, :1],
    "on a line": np.outer(np.arange(1, 61), np.ones(8)),
    "in one direction": np.hstack([NORMAL[:, :1], np.zeros((60, 7))]),
    "far from 0": NORMAL + 1e7,
    "tiny": NORMAL * 1e-30,
    "below float32's normal numbers": NORMAL * 1e-42,
    "large": NORMAL * 1e14,
    "with an outlier": np.vstack([NORMAL[1:], np.full((1, 8), 1e15)]),
    "of whole numbers": RNG.integers(0, 3, size=(60, 8)),
    "few": NORMAL[:14],
}
EQUAL, SMALL_VALUES = "all 60 rows are equal", "of which float32 stores few digits"


def told(script, argv, capsys) -> tuple[int, str]:
    """Exit code and stderr of a script."""
    try:
        code = script.main([str(part) for part in argv])
    except SystemExit as stop:
        code = stop.code
    return code, capsys.readouterr().err


@pytest.mark.parametrize(("script", "flag"), FLAGS, ids=lambda value: getattr(value, "__name__", value))
def test_nonsense_for_a_flag_is_one_line(script, flag, checkpoints, monkeypatch, capsys):
    monkeypatch.chdir(checkpoints.parent)
    # An unusable value must be reported before anything is trained.
    stopped = TrainHistory(status="interrupted")
    monkeypatch.setattr("dploss.training.run.ExperimentRun.run", lambda run, should_stop: stopped)
    monkeypatch.setattr("dploss.training.size_search.SizeSearch.run", lambda search, should_stop: None)
    small = ("--limit", "60", "--val-fraction", "0.3", *SMALL) if script is train else ()
    refused = 0
    for value in NONSENSE:
        # A folder of the person's own, which may be large, or be named as they like.
        if value[:1] in ("\x1b", ".") and flag in ("--data", "--images", "--checkpoints-dir"):
            continue
        code, error = told(script, [*small, flag, value], capsys)
        lines = [
            line for line in error.splitlines() if not line.startswith(("warning", "skipped", "interrupted", "reading"))
        ]
        assert code in (0, 1, 2, 130) and len(lines) == (code in (1, 2)), (value, error)
        assert "\x1b" not in error
        refused += code == 2
    numbers = {flag_name(name) for name, one in OPTIONS.items() if one.kind in (int, float, tuple)}
    assert refused >= (len(NONSENSE) - 2 if script is train and flag in numbers else 0)


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("flags", [(), ("--metric", "cosine"), ("--loss-function", "DPLossV2"), ("--latent-dim", "1")])
def test_odd_rows_are_trained_or_refused(kind, flags, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = ROWS[kind].astype(np.float32)
    np.save("rows.npy", rows)
    size = ("--latent-dim", str(min(4, rows.shape[1])))
    argv = ["--data", "rows.npy", "--val-fraction", "0.3", *SMALL, *size, "--no-tensorboard", *flags]
    code, error = told(train, argv, capsys)
    if "cosine" in flags and not rows.any(axis=1).all():
        assert code == 2 and "is all zeros, which has no direction: use --metric euclidean" in error
        return
    cosine = "cosine" in flags
    equal = kind in ("constant", "zero") or (kind == "on a line" and cosine)
    small = kind == "below float32's normal numbers" and not cosine
    if equal or small:
        assert code == 2 and (EQUAL if equal else SMALL_VALUES) in error and len(error.splitlines()) == 1
        return
    assert code == 0, error
    if kind in ("in two places", "thrice", "all equally far"):
        assert "are identical to another row" in error
    assert ("rows.npy: row 59 is far from all others" in error) == (kind == "with an outlier" and not cosine)
    (path,) = tmp_path.glob("checkpoints/*/latest_model.pth")
    for weights in torch.load(path, weights_only=True)["model_state_dict"].values():
        assert weights.isfinite().all()
    assert all(map(math.isfinite, TrainHistory.load(path.parent / "train_history.json").total_loss))
    assert told(test, ["--k", "1", "3"], capsys)[0] == 0


@pytest.mark.parametrize("value", [1.1e15, -3e38, np.inf, -np.inf, np.nan])
def test_a_value_that_no_distance_can_be_made_of_is_named(value, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = NORMAL.astype(np.float32)
    rows[7, 3] = value
    np.save("rows.npy", rows)
    code, error = told(train, ["--data", "rows.npy", *SMALL], capsys)
    assert code == 2 and "the first, row 7, has" in error and len(error.splitlines()) == 1


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory:\nmuch")])
def test_memory_that_does_not_suffice_is_one_line(error, capsys):
    def greedy(args: object) -> int:
        raise error

    assert run_action(greedy, Parser("greedy", None), []) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("greedy: out of memory")


def test_any_other_fault_of_the_code_is_not_hidden():
    def wrong(args: object) -> int:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        run_action(wrong, Parser("wrong", None), [])
