import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

import dploss.tracking.folder
from dploss import BestCheckpointTracker


def save(folder, name, text=None):
    path = folder / name
    if name.endswith("_dir"):
        path.mkdir()
        (path / "shard_0.bin").write_text(text or name)
    else:
        path.write_text(text or name)
    return path


@pytest.fixture
def tracked(tmp_path):
    """Save and evaluate checkpoints: tracked(tracker, 100, 0.5)."""

    def update(tracker, step, score, name=None, metric=None):
        path = save(tracker.checkpoint_dir, name or f"{step:07d}.pt")
        return tracker.update(step, step // 100, path, {metric or tracker.metric_name: score})

    return update


def names(folder):
    """The checkpoints that are there."""
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("0") or path.name.endswith("_dir"))


def best_text(folder):
    """What a person finds behind best.pt."""
    path = folder / "best.pt"
    return (path / "shard_0.bin" if path.is_dir() else path).read_text()


def test_the_best_are_kept_and_best_pt_leads_to_the_first(tmp_path, tracked):
    tracker = BestCheckpointTracker(tmp_path, save_top_k=2)
    news = [tracked(tracker, step, score) for step, score in ((1, 0.3), (2, 0.5), (3, 0.1), (4, 0.4), (5, 0.2))]
    assert news == [True, True, False, False, False]
    assert [(one.step, one.path) for one in tracker.top] == [(2, "0000002.pt"), (4, "0000004.pt")]
    assert tracker.best.step == 2
    # The latest stays though it is not among the best.
    assert names(tmp_path) == ["0000002.pt", "0000004.pt", "0000005.pt"]
    assert os.readlink(tmp_path / "best.pt") == "0000002.pt" and best_text(tmp_path) == "0000002.pt"
    state = json.loads((tmp_path / "best_checkpoints.json").read_text())
    assert [one["score"] for one in state["checkpoints"]] == [0.5, 0.4]


@pytest.mark.parametrize(
    ("metric", "given", "lower"),
    [
        ("lpips", None, True),
        ("fid", None, True),
        ("total_loss", None, True),
        ("composite_score", None, False),
        ("val/loss", None, True),
        ("my_own", True, False),
        ("my_own", False, True),
        ("lpips", True, False),
        ("recall", False, True),
    ],
)
def test_known_metrics_bring_their_direction(tmp_path, tracked, caplog, metric, given, lower):
    tracker = BestCheckpointTracker(tmp_path, metric, given)
    tracked(tracker, 1, 0.2)
    assert tracked(tracker, 2, 0.1) is lower
    contradicts = (metric, given) in (("lpips", True), ("recall", False))
    assert ("tracked the other way" in caplog.text) is contradicts


def test_the_summary_has_the_guides_form(tmp_path, capsys):
    tracker = BestCheckpointTracker(tmp_path)
    metrics = {
        "clip_score": 0.8123,
        "lpips": 0.1234,
        "inception_score": 3.45,
        "composite_score": 0.7246,
        "notes": ["x"],
    }
    for step, score in ((1600, 0.7), (2000, 0.7246)):
        tracker.update(step, step // 133, save(tmp_path, f"{step:07d}.pt"), {**metrics, "composite_score": score})
    tracker.print_summary()
    assert capsys.readouterr().out.splitlines() == [
        "=== Best Checkpoint Summary ===",
        "Tracking metric: composite_score",
        "Saved checkpoints: 2/3",
        "  #1: Step 2000, Epoch 15",
        "      Path: 0002000.pt",
        "      Metrics: clip_score: 0.8123, lpips: 0.1234, inception_score: 3.45, composite_score: 0.7246",
        "  #2: Step 1600, Epoch 12",
        "      Path: 0001600.pt",
        "      Metrics: clip_score: 0.8123, lpips: 0.1234, inception_score: 3.45, composite_score: 0.7000",
        "================================",
    ]
    results = json.loads(tracker.export_results().read_text())
    assert results["best"]["path"] == "0002000.pt" and results["best"]["metrics"]["notes"] == ["x"]
    assert [one["step"] for one in results["checkpoints"]] == [2000, 1600]


def test_before_any_score_there_is_no_best(tmp_path):
    tracker = BestCheckpointTracker(tmp_path / "new")
    assert (tracker.best, tracker.top) == (None, [])
    assert json.loads(tracker.export_results().read_text())["best"] is None


@pytest.mark.parametrize("first", [math.nan, math.inf, -math.inf, None, "0.5"])
def test_a_first_score_that_is_none_does_not_freeze_tracking(tmp_path, tracked, first):
    tracker = BestCheckpointTracker(tmp_path)
    assert not tracked(tracker, 1, first)
    assert tracker.best is None and not os.path.lexists(tmp_path / "best.pt")
    assert tracked(tracker, 2, 0.1) and tracker.best.step == 2


def test_nan_takes_no_place_among_the_best(tmp_path, tracked):
    tracker = BestCheckpointTracker(tmp_path, save_top_k=2)
    for step, score in ((1, 0.1), (2, math.nan), (3, 0.2), (4, math.nan), (5, 0.05)):
        tracked(tracker, step, score)
    assert [one.step for one in tracker.top] == [3, 1]
    assert names(tmp_path) == ["0000001.pt", "0000003.pt", "0000005.pt"]


def test_numbers_of_numpy_are_numbers(tmp_path):
    tracker = BestCheckpointTracker(tmp_path)
    assert tracker.update(1, 1, save(tmp_path, "0.pt"), {"composite_score": np.float32(0.5)})
    assert BestCheckpointTracker(tmp_path).best.metrics == {"composite_score": 0.5}


def test_resuming_remembers_the_best_and_k(tmp_path, tracked):
    tracker = BestCheckpointTracker(tmp_path, save_top_k=2)
    for step, score in ((1, 0.3), (2, 0.9), (3, 0.5)):
        tracked(tracker, step, score)
    again = BestCheckpointTracker(tmp_path, save_top_k=2)
    assert again.top == tracker.top
    assert not tracked(again, 4, 0.4)
    assert best_text(tmp_path) == "0000002.pt" and names(tmp_path) == ["0000002.pt", "0000003.pt", "0000004.pt"]
    # 4 is the latest no longer, and goes: it was this tracker's.
    tracked(again, 5, 0.6)
    assert names(tmp_path) == ["0000002.pt", "0000005.pt"]


def test_resuming_with_other_settings_is_said(tmp_path, tracked, caplog):
    tracked(BestCheckpointTracker(tmp_path, "fid", save_top_k=5), 1, 0.3)
    BestCheckpointTracker(tmp_path, "lpips")
    assert "metric_name was fid, now lpips" in caplog.text and "save_top_k was 5, now 3" in caplog.text


def test_another_runs_files_stay(tmp_path, tracked):
    save(tmp_path, "0000000_another.pt")
    save(tmp_path, "0000000_another_dir")
    tracker = BestCheckpointTracker(tmp_path, save_top_k=1)
    for step in range(1, 5):
        tracked(tracker, step, step / 10)
    assert names(tmp_path) == ["0000000_another.pt", "0000000_another_dir", "0000004.pt"]


@pytest.mark.parametrize("name", ["0000002.pt", "a_link.pt"])
def test_the_latest_and_the_resumed_from_stay(tmp_path, tracked, name):
    tracker = BestCheckpointTracker(tmp_path, save_top_k=1)
    for step, score in ((1, 0.9), (2, 0.1)):
        tracked(tracker, step, score)
    (tmp_path / "a_link.pt").symlink_to("0000002.pt")
    again = BestCheckpointTracker(tmp_path, save_top_k=1, resumed_from=tmp_path / name)
    for step in (3, 4, 5):
        tracked(again, step, 0.2)
    assert names(tmp_path) == ["0000001.pt", "0000002.pt", "0000005.pt"]


def test_multiples_stay_and_without_pruning_everything_does(tmp_path, tracked):
    (tmp_path / "b").mkdir()
    tracker = BestCheckpointTracker(tmp_path / "b", save_top_k=1, prune=False)
    for step in range(1, 5):
        tracked(tracker, step, step / 10)
    assert len(names(tmp_path / "b")) == 4 and [one.step for one in tracker.top] == [4]
    tracker = BestCheckpointTracker(tmp_path, save_top_k=1, keep_every_n_steps=2)
    for step in range(1, 7):
        tracked(tracker, step, -step)
    assert names(tmp_path) == ["0000001.pt", "0000002.pt", "0000004.pt", "0000006.pt"]


def test_sharded_folders_are_kept_and_deleted_alike(tmp_path, tracked):
    tracker = BestCheckpointTracker(tmp_path, save_top_k=2)
    for step, score in ((1, 0.3), (2, 0.5), (3, 0.4), (4, 0.6)):
        tracked(tracker, step, score, name=f"{step:07d}_dir")
    assert names(tmp_path) == ["0000002_dir", "0000004_dir"] and best_text(tmp_path) == "0000004_dir"


def test_the_new_best_is_safe_before_the_old_one_goes(tmp_path, tracked, monkeypatch):
    tracker = BestCheckpointTracker(tmp_path, save_top_k=1)
    tracked(tracker, 1, 0.1)
    deletions = []

    def watched(path):
        state = json.loads((tmp_path / "best_checkpoints.json").read_text())
        deletions.append((state["checkpoints"][0]["path"], os.readlink(tmp_path / "best.pt")))
        remove(path)

    remove = dploss.tracking.folder.remove
    monkeypatch.setattr("dploss.tracking.folder.remove", watched)
    tracked(tracker, 2, 0.2)
    assert deletions == [("0000002.pt", "0000002.pt")]


def test_the_link_is_relative_and_survives_a_move(tmp_path, tracked):
    tracker = BestCheckpointTracker(tmp_path / "a")
    tracked(tracker, 1, 0.1)
    shutil.move(tmp_path / "a", tmp_path / "b")
    assert best_text(tmp_path / "b") == "0000001.pt"
    again = BestCheckpointTracker(tmp_path / "b")
    assert tracked(again, 2, 0.2) and best_text(tmp_path / "b") == "0000002.pt"


@pytest.mark.parametrize("stale", ["/gone/for/good.pt", "0000009.pt", "best.pt"])
def test_a_link_that_leads_elsewhere_is_repaired(tmp_path, tracked, stale, caplog):
    tracked(BestCheckpointTracker(tmp_path), 1, 0.1)
    (tmp_path / "best.pt").unlink()
    (tmp_path / "best.pt").symlink_to(stale)
    BestCheckpointTracker(tmp_path)
    assert os.readlink(tmp_path / "best.pt") == "0000001.pt" and "did not point to the best" in caplog.text


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_real_best_pt_from_before_is_kept_aside(tmp_path, tracked, kind, caplog):
    if kind == "file":
        (tmp_path / "best.pt").write_text("precious")
    else:
        (tmp_path / "best.pt").mkdir()
        (tmp_path / "best.pt" / "shard_0.bin").write_text("precious")
    tracker = BestCheckpointTracker(tmp_path)
    tracked(tracker, 1, 0.1)
    assert best_text(tmp_path) == "0000001.pt" and (tmp_path / "best.pt").is_symlink()
    kept = tmp_path / "best.pt.before1"
    assert (kept / "shard_0.bin" if kind == "folder" else kept).read_text() == "precious"
    assert "renamed to best.pt.before1" in caplog.text


@pytest.mark.parametrize("suffix", [".pt", "_dir"])
def test_without_symlinks_best_pt_is_a_copy_that_is_refreshed(tmp_path, tracked, monkeypatch, suffix):
    def refuse(*args, **more):
        raise OSError("no privilege")

    monkeypatch.setattr(os, "symlink", refuse)
    tracker = BestCheckpointTracker(tmp_path, save_top_k=1)
    for step in (1, 2, 3):
        tracked(tracker, step, step / 10, name=f"{step:07d}{suffix}")
        assert not (tmp_path / "best.pt").is_symlink() and best_text(tmp_path) == f"{step:07d}{suffix}"
    again = BestCheckpointTracker(tmp_path, save_top_k=1)
    # The same checkpoint, saved anew.
    shutil.rmtree(tmp_path / "0000003_dir", ignore_errors=True)
    path = save(tmp_path, f"0000003{suffix}", "saved anew")
    assert again.update(3, 3, path, {"composite_score": 0.5})
    assert best_text(tmp_path) == "saved anew"
    assert not [path for path in tmp_path.iterdir() if "before" in path.name or path.name.endswith(".tmp")]


def test_without_symlinks_a_file_gives_way_to_a_folder_and_back(tmp_path, tracked, monkeypatch):
    monkeypatch.setattr(os, "symlink", lambda *args, **more: (_ for _ in ()).throw(OSError("no privilege")))
    tracker = BestCheckpointTracker(tmp_path, save_top_k=1)
    for step, suffix in enumerate((".pt", "_dir", ".pt"), start=1):
        tracked(tracker, step, step / 10, name=f"{step:07d}{suffix}")
        assert best_text(tmp_path) == f"{step:07d}{suffix}"
    assert not list(tmp_path.glob("*.tmp"))


def test_of_equal_scores_the_newer_is_the_best(tmp_path, tracked):
    tracker = BestCheckpointTracker(tmp_path, save_top_k=2)
    assert [tracked(tracker, step, 0.5) for step in (1, 2, 3)] == [True, True, True]
    assert [one.step for one in tracker.top] == [3, 2] and names(tmp_path) == ["0000002.pt", "0000003.pt"]


def test_a_checkpoint_saved_over_counts_anew(tmp_path, tracked):
    tracker = BestCheckpointTracker(tmp_path)
    assert tracked(tracker, 1, 0.9, name="0_latest.pt")
    assert tracked(tracker, 2, 0.5, name="0_latest.pt")
    assert [(one.step, one.path) for one in tracker.top] == [(2, "0_latest.pt")]


def test_a_recorded_checkpoint_that_vanished_is_said(tmp_path, tracked, caplog):
    tracker = BestCheckpointTracker(tmp_path)
    for step in (1, 2, 3):
        tracked(tracker, step, step / 10)
    (tmp_path / "0000003.pt").unlink()
    again = BestCheckpointTracker(tmp_path)
    assert again.best.step == 2 and best_text(tmp_path) == "0000002.pt"
    assert "0000003.pt no longer exists" in caplog.text
    (tmp_path / "0000002.pt").unlink()
    tracked(again, 4, 0.05)
    assert [one.step for one in again.top] == [1, 4] and best_text(tmp_path) == "0000001.pt"


def test_a_delete_that_fails_is_said_and_tried_again(tmp_path, tracked, monkeypatch, caplog):
    tracker = BestCheckpointTracker(tmp_path, save_top_k=1)
    tracked(tracker, 1, 0.1)
    replace = os.replace

    def refuse(source, target):
        if "deleted" in str(target):
            raise PermissionError("not allowed")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    assert tracked(tracker, 2, 0.2)
    assert "cannot be deleted: not allowed" in caplog.text and names(tmp_path) == ["0000001.pt", "0000002.pt"]
    monkeypatch.setattr(os, "replace", replace)
    tracked(tracker, 3, 0.3)
    assert names(tmp_path) == ["0000003.pt"]


def test_a_save_that_fails_is_raised_and_nothing_is_lost(tmp_path, tracked, monkeypatch):
    tracker = BestCheckpointTracker(tmp_path, save_top_k=1)
    tracked(tracker, 1, 0.1)
    before = (tmp_path / "best_checkpoints.json").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="No space left"):
            tracked(tracker, 2, 0.2)
    assert tracker.best.step == 1 and best_text(tmp_path) == "0000001.pt"
    assert (tmp_path / "best_checkpoints.json").read_bytes() == before
    assert tracked(tracker, 3, 0.3) and names(tmp_path) == ["0000002.pt", "0000003.pt"]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"checkpoints": 3, "others": []}', '{"checkpoints": [{"path": 1}], "others": []}', "[" * 100_000],
)
def test_an_unreadable_state_is_moved_aside_and_said(tmp_path, tracked, text, caplog):
    (tmp_path / "best_checkpoints.json").write_text(text)
    tracker = BestCheckpointTracker(tmp_path)
    assert (tmp_path / "best_checkpoints.json.unreadable").read_text() == text
    assert "tracking starts anew" in caplog.text
    assert tracked(tracker, 1, 0.1)


@pytest.mark.parametrize("path", ["../outside.pt", "/etc/hostname", "link.pt", ".", "best.pt"])
def test_a_state_never_leads_out_of_the_folder(tmp_path, tracked, path, caplog):
    folder = tmp_path / "inside"
    tracker = BestCheckpointTracker(folder, save_top_k=1)
    (tmp_path / "outside.pt").write_text("precious")
    (folder / "link.pt").symlink_to("../outside.pt")
    tracked(tracker, 1, 0.1)
    state = json.loads((folder / "best_checkpoints.json").read_text())
    state["others"] = [{**state["checkpoints"][0], "path": path, "order": -1, "metrics": {"composite_score": 0.9}}]
    (folder / "best_checkpoints.json").write_text(json.dumps(state))
    again = BestCheckpointTracker(folder, save_top_k=1)
    assert [one.path for one in again.top] == ["0000001.pt"] and "no longer tracked" in caplog.text
    tracked(again, 2, 0.2)
    assert (tmp_path / "outside.pt").read_text() == "precious" and (folder / "link.pt").is_symlink()


def test_only_checkpoints_in_the_folder_are_taken(tmp_path):
    tracker = BestCheckpointTracker(tmp_path / "inside")
    (tmp_path / "outside.pt").touch()
    (tmp_path / "inside" / "link.pt").symlink_to("../outside.pt")
    for path, kind in (
        (tmp_path / "outside.pt", ValueError),
        (tmp_path / "inside", ValueError),
        (tmp_path / "inside" / "link.pt", ValueError),
        (tmp_path / "inside" / "best.pt", ValueError),
        (tmp_path / "inside" / "gone.pt", FileNotFoundError),
    ):
        with pytest.raises(kind):
            tracker.update(1, 1, path, {"composite_score": 0.5})
    assert tracker.top == []


@pytest.mark.parametrize(
    ("settings", "message"), [({"save_top_k": 0}, "save_top_k"), ({"keep_every_n_steps": -1}, "keep")]
)
def test_settings_out_of_range_are_named(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        BestCheckpointTracker(tmp_path, **settings)


def test_relative_paths_and_nested_checkpoints(tmp_path, monkeypatch, tracked):
    monkeypatch.chdir(tmp_path)
    tracker = BestCheckpointTracker("run", save_top_k=1)
    for step in (1, 2):
        Path("run", f"step{step}").mkdir()
        Path("run", f"step{step}", "model.pt").write_text(str(step))
        assert tracker.update(step, step, f"run/step{step}/model.pt", {"composite_score": step / 10})
    assert best_text(Path("run")) == "2" and not Path("run/step1/model.pt").exists()


STOPPED = """
import json, os, shutil, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from dploss import BestCheckpointTracker

folder, suffix, top_k = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
SCORES = (0.3, 0.5, 0.1, 0.6, 0.2, 0.7, 0.4)

def save(step):
    whole = folder / f"{{step:07d}}{{suffix}}"
    if whole.exists():
        return whole
    if suffix == "_dir":
        part = folder / f"part{{step}}"
        part.mkdir(exist_ok=True)
        for shard in range(3):
            (part / f"shard_{{shard}}.bin").write_text(str(step))
        part.rename(whole)
    else:
        (folder / "part").write_text(str(step))
        (folder / "part").rename(whole)
    return whole

def train():
    tracker = BestCheckpointTracker(folder, save_top_k=top_k)
    for step, score in enumerate(SCORES, start=1):
        tracker.update(step, step, save(step), {{"composite_score": score}})

def check(calls):
    link = folder / "best.pt"
    if calls > 30:
        assert link.exists(), "best.pt dangles or is missing"
    if os.path.lexists(link):
        text = (link / "shard_0.bin" if link.is_dir() else link).read_text()
        assert text, "best.pt is empty"
    tracker = BestCheckpointTracker(folder, save_top_k=top_k)
    for one in tracker.top:
        whole = folder / one.path
        files = sorted(whole.iterdir()) if whole.is_dir() else [whole]
        assert len(files) == (3 if suffix == "_dir" else 1) and all(file.read_text() == str(one.step) for file in files)
    if tracker.best:
        assert link.resolve() == (folder / tracker.best.path).resolve(), "best.pt leads elsewhere"
        latest = json.loads((folder / "best_checkpoints.json").read_text())["latest"]
        assert (folder / latest).exists(), "the latest is gone"
    assert not [path.name for path in folder.iterdir() if path.name.endswith(".tmp")]

calls = 0
while True:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    child = os.fork()
    if child == 0:
        # Leave at the n-th call that changes the disk, before or after it is done.
        left, after = calls // 2, calls % 2
        def counted(name, module):
            plain = getattr(module, name)
            def call(*args, **more):
                global left
                left -= 1
                if left < 0 and not after:
                    os._exit(9)
                result = plain(*args, **more)
                if left < 0:
                    os._exit(9)
                return result
            setattr(module, name, call)
        for name in ("replace", "symlink", "fsync", "unlink", "rmdir"):
            counted(name, os)
        train()
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    check(calls)
    # And it continues to the same end.
    train()
    check(1000)
    tracker = BestCheckpointTracker(folder, save_top_k=top_k)
    assert [one.step for one in tracker.top] == [6, 4][:top_k]
    if code == 0:
        break
    assert code == 9
    calls += 1
print(calls)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize(("suffix", "top_k"), [(".pt", 1), ("_dir", 2)])
def test_stopped_at_every_instant_it_has_a_best_and_a_latest(tmp_path, suffix, top_k):
    code = STOPPED.format(root=str(ROOT))
    command = [sys.executable, "-c", code, str(tmp_path / "run"), suffix, str(top_k)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) > 100
