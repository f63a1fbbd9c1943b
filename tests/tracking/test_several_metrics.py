import json
import os

import pytest
import torch

from dploss import BestCheckpointTracker
from dploss.tracking.retention import BestN, EveryNSeconds, LatestN


def save(folder, name):
    path = folder / name
    path.write_text(name)
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("0"))


def links(folder):
    return {path.name: os.readlink(path) for path in folder.iterdir() if path.is_symlink()}


@pytest.fixture
def two(tmp_path):
    """A tracker of an accuracy and an FID, which disagree, and its evaluations."""
    tracker = BestCheckpointTracker(tmp_path, ["val/acc", "fid"], save_top_k=1)
    measured = ((1, 0.5, 9.0), (2, 0.7, 5.0), (3, 0.6, 2.0), (4, 0.4, 7.0), (5, 0.3, 8.0))
    news = [
        tracker.update(step, 0, save(tmp_path, f"{step:04d}.pt"), {"val/acc": accuracy, "fid": fid})
        for step, accuracy, fid in measured
    ]
    assert news == [True, True, False, False, False]
    return tracker


def test_every_metric_has_its_best_and_its_link(tmp_path, two):
    assert names(tmp_path) == ["0002.pt", "0003.pt", "0005.pt"]
    assert links(tmp_path) == {"best.pt": "0002.pt", "best_fid.pt": "0003.pt"}
    assert (two.metric_name, two.higher_is_better, two.best.step) == ("val/acc", True, 2)
    assert [one.step for one in two.top_by("fid")] == [3]
    with pytest.raises(KeyError, match="psnr"):
        two.top_by("psnr")


def test_every_metric_is_shown(tmp_path, two):
    assert two.summary().splitlines() == [
        "=== Best Checkpoint Summary ===",
        "Tracking metric: val/acc",
        "Saved checkpoints: 1/1",
        "  #1: Step 2, Epoch 0",
        "      Path: 0002.pt",
        "      Metrics: val/acc: 0.7000, fid: 5.00",
        "Tracking metric: fid",
        "Saved checkpoints: 1/1",
        "  #1: Step 3, Epoch 0",
        "      Path: 0003.pt",
        "      Metrics: val/acc: 0.6000, fid: 2.00",
        "================================",
    ]
    content = json.loads(two.export_results().read_text())
    assert (content["metric_name"], content["best"]["score"]) == ("val/acc", 0.7)
    fid = content["further_metrics"]["fid"]
    assert (fid["higher_is_better"], fid["best"]["path"], fid["checkpoints"][0]["score"]) == (False, "0003.pt", 2.0)


def test_older_readers_find_one_metric_in_the_state(tmp_path, two):
    state = json.loads((tmp_path / "best_checkpoints.json").read_text())
    assert (state["metric_name"], state["higher_is_better"], state["owns_link"]) == ("val/acc", True, True)
    assert [one["path"] for one in state["checkpoints"]] == ["0002.pt"]
    assert {one["path"] for one in state["others"]} == {"0003.pt", "0005.pt"} and state["latest"] == "0005.pt"


def test_a_restart_remembers_every_metric(tmp_path, two):
    (tmp_path / "best_fid.pt").unlink()
    again = BestCheckpointTracker(tmp_path, ["val/acc", "fid"], save_top_k=1)
    assert links(tmp_path) == {"best.pt": "0002.pt", "best_fid.pt": "0003.pt"}
    again.update(6, 0, save(tmp_path, "0006.pt"), {"val/acc": 0.1, "fid": 1.0})
    assert links(tmp_path) == {"best.pt": "0002.pt", "best_fid.pt": "0006.pt"}
    assert names(tmp_path) == ["0002.pt", "0006.pt"]


def test_a_metric_that_is_tracked_no_more_leaves_no_link(tmp_path, two, caplog):
    again = BestCheckpointTracker(tmp_path, "fid", save_top_k=1)
    assert "metric_name was val/acc, now fid" in caplog.text and "further_metrics was ['fid'], now []" in caplog.text
    # What the links are of is changed by the first update.
    assert links(tmp_path) == {"best.pt": "0002.pt", "best_fid.pt": "0003.pt"}
    again.update(6, 0, save(tmp_path, "0006.pt"), {"fid": 4.0})
    assert links(tmp_path) == {"best.pt": "0003.pt"} and names(tmp_path) == ["0003.pt", "0006.pt"]


def test_a_foreign_file_in_a_links_place_is_set_aside(tmp_path):
    save(tmp_path, "best_fid.pt")
    tracker = BestCheckpointTracker(tmp_path, ["psnr", "fid"])
    with pytest.raises(ValueError, match="best_fid.pt is not a checkpoint"):
        tracker.update(1, 0, tmp_path / "best_fid.pt", {"fid": 1.0})
    tracker.update(1, 0, save(tmp_path, "0001.pt"), {"fid": 1.0})
    # The other metric has no best yet, and no link.
    assert links(tmp_path) == {"best_fid.pt": "0001.pt"} and (tmp_path / "best_fid.pt.before1").is_file()


@pytest.mark.parametrize(
    ("metric_name", "higher_is_better", "message"),
    [
        ("speed", None, "'speed': pass higher_is_better"),
        (["fid", "speed"], {"fid": False}, "'speed': pass higher_is_better"),
        (["fid", "speed"], {"sped": True}, "higher_is_better names sped; tracked are fid, speed"),
        ([], None, "several different names"),
        (["fid", "fid"], None, "several different names"),
        (["psnr", "val/fid", "VAL_FID"], None, "would share a name"),
    ],
)
def test_metrics_that_cannot_be_tracked_are_said_before_anything_is_written(
    tmp_path, metric_name, higher_is_better, message
):
    with pytest.raises(ValueError, match=message):
        BestCheckpointTracker(tmp_path / "run", metric_name, higher_is_better)
    assert not (tmp_path / "run").exists()


def test_directions_by_name(tmp_path, caplog):
    tracker = BestCheckpointTracker(tmp_path, ["speed", "fid", "psnr"], {"speed": True, "psnr": False})
    assert [one.higher_is_better for one in tracker.rankings] == [True, False, False]
    assert "psnr is better when higher, tracked the other way" in caplog.text


def test_further_rules_keep_more(tmp_path, monkeypatch):
    def of_primes(entries):
        return [one for one in entries if one.step in (2, 3, 5, 7)]

    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr("dploss.tracking.tracker.time.time", lambda: float(next(clock)))
    kept = {"a": [of_primes], "b": [LatestN(3)], "c": [BestN("psnr", 2)], "d": [EveryNSeconds(30)], "e": []}
    found = {}
    for folder, keep in kept.items():
        tracker = BestCheckpointTracker(tmp_path / folder, "fid", save_top_k=1, keep=keep)
        for step in range(1, 9):
            path = save(tracker.checkpoint_dir, f"{step:04d}.pt")
            tracker.update(step, 0, path, {"fid": abs(step - 4), "psnr": -step})
        found[folder] = [int(name[:4]) for name in names(tracker.checkpoint_dir)]
    assert found == {"a": [2, 3, 4, 5, 7, 8], "b": [4, 6, 7, 8], "c": [1, 2, 4, 8], "d": [1, 4, 7, 8], "e": [4, 8]}


def test_averaged_weights_are_checkpoints_of_their_own(tmp_path):
    tracker = BestCheckpointTracker(tmp_path, "fid", save_top_k=1)
    for step, fid, averaged in ((100, 3.0, 5.0), (200, 9.0, 8.0), (300, 7.0, 6.0)):
        tracker.update(step, 0, save(tmp_path, f"0{step}.pt"), {"fid": fid})
        tracker.update(step, 0, save(tmp_path, f"0{step}_ema.pt"), {"fid": averaged})
        assert {f"0{step}.pt", f"0{step}_ema.pt"} <= set(names(tmp_path))
    assert names(tmp_path) == ["0100.pt", "0300.pt", "0300_ema.pt"]


def test_the_link_has_the_suffix_that_loaders_go_by(tmp_path):
    load_file, save_file = (
        getattr(pytest.importorskip("safetensors.torch"), name) for name in ("load_file", "save_file")
    )
    tracker = BestCheckpointTracker(tmp_path, ["fid", "psnr"], save_top_k=1)
    torch.save({"weight": torch.ones(2)}, tmp_path / "0001.pt")
    tracker.update(1, 0, tmp_path / "0001.pt", {"fid": 5.0, "psnr": 9.0})
    assert torch.equal(torch.load(tmp_path / "best.pt", weights_only=True)["weight"], torch.ones(2))
    save_file({"weight": torch.zeros(2)}, tmp_path / "0002.safetensors")
    tracker.update(2, 0, tmp_path / "0002.safetensors", {"fid": 4.0, "psnr": 8.0})
    assert links(tmp_path) == {"best.safetensors": "0002.safetensors", "best_psnr.pt": "0001.pt"}
    assert torch.equal(load_file(tmp_path / "best.safetensors")["weight"], torch.zeros(2))
    assert torch.equal(torch.load(tmp_path / "best_psnr.pt", weights_only=True)["weight"], torch.ones(2))
    # And after a restart back to the other format: a shard's folder.
    again = BestCheckpointTracker(tmp_path, ["fid", "psnr"], save_top_k=1)
    (tmp_path / "0003").mkdir()
    save_file({"weight": torch.full((2,), 3.0)}, tmp_path / "0003" / "model-00001-of-00001.safetensors")
    again.update(3, 0, tmp_path / "0003", {"fid": 3.0, "psnr": 7.0})
    assert links(tmp_path) == {"best.pt": "0003", "best_psnr.pt": "0001.pt"}
    assert load_file(tmp_path / "best.pt" / "model-00001-of-00001.safetensors")["weight"].tolist() == [3.0, 3.0]
    assert names(tmp_path) == ["0001.pt", "0003"]


def test_a_foreign_link_of_the_other_suffix_stays(tmp_path):
    save(tmp_path, "best.pt")
    tracker = BestCheckpointTracker(tmp_path, "fid")
    tracker.update(1, 0, save(tmp_path, "0001.safetensors"), {"fid": 1.0})
    assert (tmp_path / "best.pt").read_text() == "best.pt" and links(tmp_path) == {
        "best.safetensors": "0001.safetensors"
    }
