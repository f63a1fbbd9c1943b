"""docs/SHARING: both languages show the same, and what it shows works."""

import re

import pytest
from conftest import ROOT

from dploss.cli.config_file import settings_of_file
from dploss.config import TrainConfig

PAGES = ("SHARING.md", "SHARING.ko.md")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("language", ["bash", "python", "toml"])
def test_both_languages_show_the_same(language):
    english, korean = ([re.sub(r"[ ]*#.*", "", one) for one in blocks(page, language)] for page in PAGES)
    assert english == korean and english


def test_the_settings_are_settings(tmp_path):
    (toml,) = blocks(PAGES[0], "toml")
    (tmp_path / "run.toml").write_text(toml)
    config = TrainConfig(**settings_of_file(str(tmp_path / "run.toml"), {}))
    assert (config.latent_dim, config.hidden_dims, config.log_to, config.prune) == (128, (2048,), "wandb", True)


def test_the_python_runs_as_it_is_written(checkpoints, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = next(one.name for one in checkpoints.iterdir())
    load, share = (block.replace("<uuid>", name) for block in blocks(PAGES[0], "python"))
    names: dict = {}
    exec(share, names)
    exec(load, names)
    assert names["encoder"].latent_dim == 16 and {one.name for one in (tmp_path / "my-encoder").iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
    }
