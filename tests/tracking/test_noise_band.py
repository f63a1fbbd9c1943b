import json
import os

import pytest

from dploss import BestCheckpointTracker
from dploss.tracking.retention import EveryNSeconds


def update(tracker, step, score, error=None):
    path = tracker.checkpoint_dir / f"{step:04d}.pt"
    path.write_text(path.name)
    name = tracker.metric_name
    return tracker.update(step, 0, path, {name: score} if error is None else {name: score, f"{name}_se": error})


def test_a_tie_is_listed_and_the_best_stays(tmp_path):
    tracker = BestCheckpointTracker(tmp_path, "psnr", save_top_k=2, min_delta="auto")
    news = [
        update(tracker, step, score, 0.5) for step, score in ((1, 20.0), (2, 20.5), (3, 20.6), (4, 19.0), (5, 20.8))
    ]
    assert news == [True, False, False, False, True]
    # 2 is better than 1, by less than both are unsure of: sqrt(0.5² + 0.5²).
    assert [one.step for one in tracker.top] == [5, 3] and os.readlink(tmp_path / "best.pt") == "0005.pt"
    assert "      tie with #1 within ±0.7071" in tracker.summary().splitlines()
    content = json.loads(tracker.export_results().read_text())
    assert content["min_delta"] == "auto" and "tie_within" not in content["best"]
    assert content["checkpoints"][1]["tie_within"] == pytest.approx(0.5**0.5)


def test_what_two_evaluations_share_is_no_noise(tmp_path):
    tracker = BestCheckpointTracker(tmp_path, "psnr", min_delta="auto")
    of_images = [10.0, 20.0, 30.0, 40.0]
    # Every image gains 0.5: sure, however far the images are apart. Then some gain and some lose.
    for step, gains, is_best in ((1, [0, 0, 0, 0], True), (2, [0.5] * 4, True), (3, [4, -3, 4, -2], False)):
        values = [one + gain for one, gain in zip(of_images, gains, strict=True)]
        without = [(sum(values) - one) / 3 for one in values]
        path = tmp_path / f"{step}.pt"
        path.write_text("weights")
        metrics = {"psnr": sum(values) / 4, "psnr_se": 6.5, "jackknife": {"psnr": without, "ssim": without}}
        assert tracker.update(step, 0, path, metrics) is is_best
    state = json.loads((tmp_path / "best_checkpoints.json").read_text())
    assert all(list(one["metrics"]["jackknife"]) == ["psnr"] for one in state["checkpoints"])
    # Of other numbers of images, or damaged, the standard errors count.
    for step, without in ((4, [30.0] * 3), (5, ["x"] * 4), (6, None)):
        path = tmp_path / f"{step}.pt"
        path.write_text("weights")
        assert not tracker.update(step, 0, path, {"psnr": 29.0, "psnr_se": 6.5, "jackknife": {"psnr": without}})


def test_the_incumbent_is_kept_though_others_score_higher(tmp_path):
    tracker = BestCheckpointTracker(tmp_path, "psnr", save_top_k=1, min_delta=1.0)
    assert [update(tracker, step, 20 + step / 10) for step in range(1, 5)] == [True, False, False, False]
    assert sorted(path.name for path in tmp_path.glob("0*")) == ["0001.pt", "0004.pt"]
    # A restart agrees, though all that the first exceeded, or tied with, is gone.
    again = BestCheckpointTracker(tmp_path, "psnr", save_top_k=1, min_delta=1.0)
    assert again.best.step == 1 and not update(again, 5, 21.0)
    assert os.readlink(tmp_path / "best.pt") == "0001.pt"
    assert update(again, 6, 21.2) and again.best.step == 6


def test_with_another_band_a_restart_goes_on_from_the_best_there_is(tmp_path, caplog):
    tracker = BestCheckpointTracker(tmp_path, "psnr", min_delta=1.0)
    for step in (1, 2, 3):
        update(tracker, step, 20 + step / 10)
    again = BestCheckpointTracker(tmp_path, "psnr")
    assert "min_delta was 1.0, now 0.0" in caplog.text
    assert again.best.step == 3
    assert BestCheckpointTracker(tmp_path, "psnr", min_delta=1.0).best.step == 1


def test_a_saved_over_best_is_compared_anew(tmp_path):
    tracker = BestCheckpointTracker(tmp_path, "psnr", min_delta=1.0)
    for step, score in ((1, 20.0), (2, 20.9), (1, 15.0)):
        update(tracker, step, score)
    assert [one.step for one in tracker.top] == [2, 1]


def test_without_a_standard_error_there_is_no_band_and_it_is_said_once(tmp_path, caplog):
    tracker = BestCheckpointTracker(tmp_path, "psnr", min_delta="auto")
    assert [update(tracker, step, 20.0) for step in (1, 2, 3)] == [True, True, True]
    assert caplog.text.count("psnr_se was not measured") == 1


@pytest.mark.parametrize("min_delta", [-1.0, float("nan"), float("inf"), "much"])
def test_a_band_out_of_range_is_named(tmp_path, min_delta):
    with pytest.raises(ValueError, match="min_delta must be a number of at least 0 or 'auto'"):
        BestCheckpointTracker(tmp_path, min_delta=min_delta)


def test_without_a_band_the_state_has_what_older_versions_wrote(tmp_path):
    update(BestCheckpointTracker(tmp_path, "psnr"), 1, 20.0)
    state = json.loads((tmp_path / "best_checkpoints.json").read_text())
    assert list(state) == [
        "metric_name",
        "higher_is_better",
        "save_top_k",
        "keep_every_n_steps",
        "latest",
        "owns_link",
        "checkpoints",
        "others",
        "writer",
    ]
    assert list(state["checkpoints"][0]) == ["path", "step", "epoch", "metrics", "order", "time", "score"]


def test_a_state_of_an_older_version_is_continued(tmp_path, caplog):
    old = {"path": "0001.pt", "step": 1, "epoch": 0, "metrics": {"psnr": 30.0}, "order": 0, "score": 30.0}
    failed = {**old, "path": "0002.pt", "step": 2, "metrics": {"psnr": None}, "order": 1, "score": None}
    settings = {"metric_name": "psnr", "higher_is_better": True, "save_top_k": 1, "keep_every_n_steps": 10_000}
    state = {**settings, "latest": "0002.pt", "owns_link": True, "checkpoints": [old], "others": [failed]}
    (tmp_path / "best_checkpoints.json").write_text(json.dumps(state))
    for one in (old, failed):
        (tmp_path / one["path"]).write_text(one["path"])
    (tmp_path / "best.pt").symlink_to("0001.pt")
    tracker = BestCheckpointTracker(tmp_path, "psnr", save_top_k=1, keep=[EveryNSeconds(1000)])
    assert not caplog.text and (tracker.best.step, tracker.best.time) == (1, None)
    # What older versions wrote of NaN, and of what was not measured, is null; they deleted both.
    assert [update(tracker, step, 10.0) for step in (3, 4, 5)] == [False] * 3
    assert sorted(path.name for path in tmp_path.glob("0*")) == ["0001.pt", "0003.pt", "0005.pt"]
