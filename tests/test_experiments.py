import pytest

from dploss.errors import InputError
from dploss.experiments import find_experiment

IDS = ["3f2a1111", "3f2b2222", "9c003333"]


@pytest.fixture
def checkpoints(tmp_path):
    for name in IDS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "latest_model.pth").touch()
    (tmp_path / "9c_no_experiment").mkdir()
    return tmp_path


@pytest.mark.parametrize("reference", ["9c003333", "9", "9c"])
def test_an_id_or_a_unique_prefix_finds_it(checkpoints, reference):
    assert find_experiment(checkpoints, reference) == checkpoints / "9c003333"


def test_a_path_finds_it(checkpoints, tmp_path):
    folder = checkpoints / "3f2a1111"
    for path in (folder, folder / "latest_model.pth", folder / "config.json"):
        assert find_experiment(tmp_path / "elsewhere", str(path)) == folder


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("3f2", "several experiments start with '3f2': 3f2a1111, 3f2b2222; give more"),
        ("77", "no experiment '77' in .*; there are 3f2a1111, 3f2b2222, 9c003333"),
        ("", "no experiment ''"),
    ],
)
def test_none_or_several_is_said(checkpoints, reference, message):
    with pytest.raises(InputError, match=message):
        find_experiment(checkpoints, reference)


def test_an_empty_folder_says_how_to_make_one(tmp_path):
    with pytest.raises(InputError, match=r"no experiment in .*: train.py makes one"):
        find_experiment(tmp_path, "3f2")
