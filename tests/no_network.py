"""A machine without weights: empty caches and no network, whatever the real one has."""

import urllib.error
from pathlib import Path

import pytest


def no_weights(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Put the metrics' weights out of reach; `folder` stands in for the caches."""

    def refuse(*args, **settings):
        raise urllib.error.URLError("no network in this test")

    patch.setenv("TORCH_HOME", str(folder / "no_cache"))
    patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "no_cache"))
    patch.setattr("urllib.request.urlopen", refuse)
