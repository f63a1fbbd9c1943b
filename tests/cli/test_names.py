import uuid
from pathlib import Path

import pytest

from dploss.cli.names import resume_line
from dploss.experiments.catalog import find_experiment

NAMES = ["3f2a91bc-0000-4000-8000-000000000000", "3f2a91bc-0007-4000-8000-000000000000", "3f2a91bd"]


@pytest.fixture
def experiments(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def make(folder: str, *names: str) -> list[Path]:
        for name in names:
            (Path(folder) / name).mkdir(parents=True)
            (Path(folder) / name / "config.json").touch()
        return [Path(folder) / name for name in names]

    return make


def test_a_training_is_resumed_by_its_short_id(experiments, monkeypatch):
    (folder,) = experiments("checkpoints", NAMES[0])
    monkeypatch.setattr("sys.argv", ["train.py"])
    assert resume_line(folder) == "uv run python train.py --resume 3f2a91bc"
    monkeypatch.setattr("sys.argv", ["/usr/bin/dploss"])
    assert resume_line(folder) == "dploss train --resume 3f2a91bc"


def test_another_folder_of_experiments_is_named_as_a_shell_takes_it(experiments, monkeypatch):
    (folder,) = experiments("my runs/of 2026", str(uuid.UUID(int=7)))
    monkeypatch.setattr("sys.argv", ["train.py"])
    line = resume_line(folder)
    assert line == "uv run python train.py --resume 00000000 --checkpoints-dir 'my runs/of 2026'"


def test_the_id_is_as_long_as_it_takes_to_find_the_one(experiments):
    folders = experiments("checkpoints", *NAMES)
    references = [resume_line(folder).split()[-1] for folder in folders]
    assert references == ["3f2a91bc-0000", "3f2a91bc-0007", "3f2a91bd"]
    assert [find_experiment("checkpoints", one) for one in references] == folders
