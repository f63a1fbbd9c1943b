import json
import math
import os
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch

from dploss import BestCheckpointTracker
from dploss.errors import TrackerConflictError
from metrics import register, unregister


def update(tracker, step, metrics, name=None):
    path = tracker.checkpoint_dir / (name or f"{step:04d}.pt")
    path.write_text(path.name)
    return tracker.update(step, 0, path, metrics)


def names(folder):
    return sorted(path.name for path in folder.glob("0*"))


def test_a_loss_is_lower_is_better_and_its_best_is_kept(tmp_path):
    tracker = BestCheckpointTracker(tmp_path, "val_loss", save_top_k=1)
    assert [update(tracker, step, {"val_loss": loss}) for step, loss in enumerate((3.0, 1.0, 2.0), 1)] == [
        True,
        True,
        False,
    ]
    assert names(tmp_path) == ["0002.pt", "0003.pt"]


def test_a_registered_metric_has_its_direction(tmp_path):
    register("oddness", lambda generated, references, prompts: 0.0, higher_is_better=False)
    try:
        assert not BestCheckpointTracker(tmp_path, "oddness").higher_is_better
    finally:
        unregister("oddness")


def test_a_misspelt_metric_keeps_the_newest_and_says_what_was_measured(tmp_path, caplog):
    tracker = BestCheckpointTracker(tmp_path, "pnsr", True, save_top_k=3)
    for step in range(1, 7):
        assert not update(tracker, step, {"psnr": 20.0 + step, "ssim": math.nan, "lpips": 0.5, "notes": "x"})
    assert names(tmp_path) == ["0004.pt", "0005.pt", "0006.pt"] and tracker.best is None
    said = "step 1: 'pnsr' was not measured (did you mean 'psnr'?); measured: lpips, psnr, ssim; not ranked"
    assert said in caplog.text


def test_not_measured_is_not_nan(tmp_path, caplog):
    tracker = BestCheckpointTracker(tmp_path, "psnr", save_top_k=1)
    for step, value in enumerate((20.0, None, math.nan, "30", 10.0, 5.0), start=1):
        update(tracker, step, {"psnr": value})
    # "30" is no number: nobody knows how good it is either, and it is newer than what was not measured.
    assert names(tmp_path) == ["0001.pt", "0004.pt", "0006.pt"]
    assert "step 2: 'psnr' was not measured; measured: nothing" in caplog.text
    assert "step 3: psnr is nan; not ranked" in caplog.text
    assert "step 4: psnr is no number but '30'; not ranked" in caplog.text


def test_nan_is_still_nan_after_a_restart(tmp_path):
    tracker = BestCheckpointTracker(tmp_path, "psnr", save_top_k=1)
    update(tracker, 1, {"psnr": 20.0})
    update(tracker, 2, {"psnr": math.inf})
    update(BestCheckpointTracker(tmp_path, "psnr", save_top_k=1), 3, {"psnr": 10.0})
    assert names(tmp_path) == ["0001.pt", "0003.pt"]


class Hostile:
    def __str__(self):
        raise RuntimeError("no text")

    @property
    def item(self):
        raise RuntimeError("no item")


CIRCLE: list = []
CIRCLE.append(CIRCLE)


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (np.float32(0.5), 0.5),
        (np.int64(7), 7),
        (np.bool_(True), True),
        (np.array([[0.25]]), 0.25),
        (torch.tensor(0.5, requires_grad=True), 0.5),
        (torch.tensor(2.0, dtype=torch.bfloat16), 2.0),
        (Decimal("0.1"), 0.1),
        (Fraction(1, 4), 0.25),
        (10**30, 10**30),
        (10**5000, None),
        (-(10**5000), None),
        (Fraction(10) ** 500, ...),
        (Decimal("sNaN"), "sNaN"),
        (math.nan, None),
        ("text \ud800", "text ?"),
        ([1, math.inf, {2: (3, None)}], [1, None, {"2": [3, None]}]),
        (np.arange(3), "[0 1 2]"),
        (torch.zeros(2), "tensor([0., 0.])"),
        (torch.zeros(3, device="meta"), ...),
        (1 + 2j, "(1+2j)"),
        (b"\xff", "b'\\xff'"),
        (Hostile(), "<Hostile>"),
        (CIRCLE, ...),
        (object, "<class 'object'>"),
    ],
    # Not even pytest can show all of them.
    ids=lambda value: type(value).__name__,
)
def test_no_value_ends_a_training(tmp_path, value, stored):
    tracker = BestCheckpointTracker(tmp_path, "psnr", save_top_k=1)
    update(tracker, 1, {"psnr": value, "of_it": {"a": value}, 3: value, Hostile(): value, "\ud800": 1})
    tracker.summary()
    tracker.export_results()
    text = (tmp_path / "best_checkpoints.json").read_text()
    state = json.loads(text, parse_constant=pytest.fail)
    (entry,) = [*state["checkpoints"], *state["others"]]
    assert entry["metrics"].keys() == {"psnr", "of_it", "3", "<Hostile>", "?"}
    if stored is not ...:
        assert entry["metrics"]["psnr"] == stored == entry["metrics"]["of_it"]["a"]
    again = BestCheckpointTracker(tmp_path, "psnr", save_top_k=1)
    assert again.top == tracker.top
    update(again, 2, {"psnr": 0.0})


def test_two_trackers_in_a_folder_are_refused(tmp_path):
    one, other = (BestCheckpointTracker(tmp_path, "psnr", save_top_k=1) for _ in range(2))
    update(one, 1, {"psnr": 20.0})
    before = (tmp_path / "best_checkpoints.json").read_bytes()
    for _ in range(2):
        with pytest.raises(TrackerConflictError, match="another tracker has written it since; give every run a folder"):
            update(other, 2, {"psnr": 30.0})
    assert (tmp_path / "best_checkpoints.json").read_bytes() == before and names(tmp_path) == ["0001.pt", "0002.pt"]
    # The first continues, until one that has read its state takes over.
    update(one, 3, {"psnr": 10.0})
    third = BestCheckpointTracker(tmp_path, "psnr", save_top_k=1)
    update(one, 4, {"psnr": 11.0})
    with pytest.raises(TrackerConflictError):
        update(third, 5, {"psnr": 12.0})
    successor = BestCheckpointTracker(tmp_path, "psnr", save_top_k=1)
    update(successor, 6, {"psnr": 13.0})
    with pytest.raises(TrackerConflictError):
        update(one, 7, {"psnr": 14.0})
    assert os.readlink(tmp_path / "best.pt") == "0001.pt" and (tmp_path / "0001.pt").exists()


def test_a_write_that_failed_late_is_not_another_trackers(tmp_path, monkeypatch):
    tracker = BestCheckpointTracker(tmp_path, "psnr")
    update(tracker, 1, {"psnr": 20.0})
    with monkeypatch.context() as patch:
        patch.setattr("dploss.files.atomic.sync_folder", lambda folder: (_ for _ in ()).throw(OSError("gone")))
        with pytest.raises(OSError, match="gone"):
            update(tracker, 2, {"psnr": 30.0})
    assert update(tracker, 3, {"psnr": 40.0})


def test_a_tracker_that_only_looks_writes_nothing(tmp_path):
    tracker = BestCheckpointTracker(tmp_path, "psnr", save_top_k=1)
    for step in (1, 2):
        update(tracker, step, {"psnr": -step})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    looking = BestCheckpointTracker(tmp_path, ["ssim", "psnr"], save_top_k=1)
    assert looking.top_by("psnr") == tracker.top
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    update(tracker, 3, {"psnr": 1.0})


def test_a_new_run_in_an_old_folder_is_kept_apart(tmp_path, caplog):
    old = BestCheckpointTracker(tmp_path, "psnr", save_top_k=1)
    for step, score in ((10, 50.0), (20, 40.0)):
        update(old, step, {"psnr": score}, f"0old{step}.pt")
    state = (tmp_path / "best_checkpoints.json").read_bytes()
    new = BestCheckpointTracker(tmp_path, "psnr", save_top_k=1)
    assert update(new, 1, {"psnr": 10.0})
    assert "step 1 is below 20, the last step tracked" in caplog.text and "taken for a new run" in caplog.text
    assert (tmp_path / "best_checkpoints.previous.json").read_bytes() == state
    for step in (2, 3, 30):
        update(new, step, {"psnr": 10.0 + step})
    assert names(tmp_path) == ["0030.pt", "0old10.pt", "0old20.pt"]
    assert os.readlink(tmp_path / "best.pt") == "0030.pt" and [one.step for one in new.top] == [30]
    # A third run, and then one that continues.
    update(BestCheckpointTracker(tmp_path, "psnr", save_top_k=1), 5, {"psnr": 1.0})
    assert (tmp_path / "best_checkpoints.previous1.json").exists()
    caplog.clear()
    update(BestCheckpointTracker(tmp_path, "psnr", save_top_k=1), 6, {"psnr": 1.0})
    assert names(tmp_path) == ["0006.pt", "0030.pt", "0old10.pt", "0old20.pt"] and "new run" not in caplog.text


@pytest.mark.parametrize("how", ["resumed_from", "known path"])
def test_a_run_that_goes_back_and_on_is_no_new_one(tmp_path, how, caplog):
    tracker = BestCheckpointTracker(tmp_path, "psnr", save_top_k=2)
    for step, score in ((10, 50.0), (20, 40.0), (30, 30.0)):
        update(tracker, step, {"psnr": score})
    resumed_from = tmp_path / "0010.pt" if how == "resumed_from" else None
    again = BestCheckpointTracker(tmp_path, "psnr", save_top_k=2, resumed_from=resumed_from)
    update(again, 15 if resumed_from else 20, {"psnr": 45.0})
    assert "new run" not in caplog.text and [one.step for one in again.top] == [10, 15 if resumed_from else 20]
    assert not list(tmp_path.glob("*previous*"))


def test_a_new_run_whose_state_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    update(BestCheckpointTracker(tmp_path, "psnr"), 10, {"psnr": 50.0})
    new = BestCheckpointTracker(tmp_path, "psnr", save_top_k=1)
    with monkeypatch.context() as patch:
        patch.setattr(
            "dploss.tracking.state.write_json", lambda path, value: (_ for _ in ()).throw(OSError(28, "full"))
        )
        with pytest.raises(OSError, match="full"):
            update(new, 1, {"psnr": 1.0})
    assert (tmp_path / "best_checkpoints.previous.json").exists() and new.top == []
    assert update(new, 2, {"psnr": 2.0}) and names(tmp_path) == ["0001.pt", "0002.pt", "0010.pt"]
