import json
import os
from datetime import UTC, datetime

import pytest

from dploss.errors import InputError
from dploss.experiments.catalog import (
    find_experiment,
    finished_experiment,
    finished_experiments,
    list_experiments,
    open_experiment,
    short_ids,
)

IDS = ["3f2a1111", "3f2b2222", "9c003333"]
HISTORY = {"epochs": [1, 2], "total_loss": [2.0, 1.0]}


def make(folder, name, config=None, history=HISTORY):
    (folder / name).mkdir(parents=True)
    if config is not None:
        (folder / name / "config.json").write_text(json.dumps(config))
    if history is not None:
        (folder / name / "train_history.json").write_text(json.dumps(history))
    return folder / name


@pytest.fixture
def folder(tmp_path):
    for name in IDS:
        make(tmp_path, name, config={})
        (tmp_path / name / "latest_model.pth").touch()
    (tmp_path / "9c_no_experiment").mkdir()
    return tmp_path


@pytest.mark.parametrize("reference", ["9c003333", "9", "9c"])
def test_an_id_or_a_unique_prefix_finds_it(folder, reference):
    assert find_experiment(folder, reference) == folder / "9c003333"


def test_a_path_finds_it(folder, tmp_path):
    found = folder / "3f2a1111"
    for path in (found, found / "latest_model.pth", found / "config.json"):
        assert find_experiment(tmp_path / "elsewhere", str(path)) == found


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("3f2", "several experiments start with '3f2': 3f2a1111, 3f2b2222; give more"),
        ("77", "no experiment '77' in .*; there are 3f2a1111, 3f2b2222, 9c003333"),
        ("", "no experiment ''"),
    ],
)
def test_none_or_several_is_said(folder, reference, message):
    with pytest.raises(InputError, match=message):
        find_experiment(folder, reference)


def test_an_empty_folder_says_how_to_make_one(tmp_path):
    with pytest.raises(InputError, match=r"no experiment in .*: train.py makes one"):
        find_experiment(tmp_path, "3f2")
    with pytest.raises(InputError, match=r"no experiment in .*: train.py makes one"):
        finished_experiments(tmp_path / "gone")


def test_they_are_listed_newest_first_whatever_their_names_and_time_zones(tmp_path):
    make(tmp_path, "b", config={"created": "2026-01-01T12:00:00+00:00"})
    make(tmp_path, "a", config={"created": "2026-01-01T12:30:00+09:00"})
    make(tmp_path, "c", config={"created": "2026-01-01T12:00:01"})
    os.utime(make(tmp_path, "made_elsewhere") / "train_history.json", (0, datetime(2027, 1, 1, tzinfo=UTC).timestamp()))
    experiments, skipped = list_experiments(tmp_path)
    assert ([experiment.id for experiment in experiments], skipped) == (["made_elsewhere", "c", "b", "a"], [])
    assert experiments[0].config == {} and experiments[0].history.total_loss == [2.0, 1.0]


def test_a_broken_or_half_filled_folder_is_named_and_left_out(tmp_path):
    make(tmp_path, "good", config={})
    (make(tmp_path, "cut") / "train_history.json").write_text('{"epochs": [1')
    (make(tmp_path, "odd") / "config.json").write_text("[1]")
    (make(tmp_path, "deep") / "config.json").write_text("[" * 100_000)
    make(tmp_path, "only_config", config={}, history=None)
    make(tmp_path, "empty", history=None)
    make(tmp_path, ".hidden", history=None)
    (tmp_path / "a_file").touch()
    experiments, skipped = list_experiments(tmp_path)
    assert [experiment.id for experiment in experiments] == ["good"]
    for name, line in zip(("cut", "deep", "empty", "odd", "only_config"), skipped, strict=True):
        assert f"/{name}" in line and "\n" not in line


def test_without_a_finished_epoch_there_is_nothing_to_see(tmp_path):
    make(tmp_path, "begun", history={"epochs": [], "total_loss": []})
    assert list_experiments(tmp_path)[0][0].id == "begun"
    with pytest.raises(InputError, match="no experiment in .*begun: no epoch is finished yet"):
        finished_experiments(tmp_path)
    with pytest.raises(InputError, match="begun: no epoch is finished yet"):
        finished_experiment(tmp_path, "beg")
    make(tmp_path, "done")
    experiments, skipped = finished_experiments(tmp_path)
    assert [one.id for one in experiments] == ["done"] and "begun: no epoch" in skipped[0]


def test_a_real_experiment_is_opened(trained):
    experiment = list_experiments(trained)[0][0]
    assert experiment == open_experiment(experiment.folder)
    assert experiment.config["experiment_id"] == experiment.id
    assert experiment.history.status == "completed"


def test_uuids_are_shortened_until_they_differ_and_names_stay():
    first = "3f2a1111-0000-4000-8000-000000000000"
    assert short_ids([first, "exp1", "exp10"]) == {first: "3f2a1111", "exp1": "exp1", "exp10": "exp10"}
    second = "3f2a1111-0007-4000-8000-000000000000"
    assert short_ids([first, second]) == {first: "3f2a1111-0000", second: "3f2a1111-0007"}
