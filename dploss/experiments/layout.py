"""What lies where in the folder of an experiment, checkpoints/<uuid>/; best.pt and its state are of dploss.tracking."""

import re
from pathlib import Path
from typing import Any

from dploss.errors import InputError
from dploss.files.untrusted import read_json

CONFIG = "config.json"
HISTORY = "train_history.json"
LATEST = "latest_model.pth"
# Of an encoder that is shared, in a folder of its own.
SHARED = "model.safetensors"
CARD = "README.md"


def epoch_checkpoint(epoch: int) -> str:
    """The name of the checkpoint that is kept of an epoch."""
    return f"checkpoint_epoch_{epoch:03d}.pth"


def epoch_checkpoints(folder: Path) -> list[Path]:
    """The kept checkpoints that are there, first epoch first."""
    named = ((re.fullmatch(r"checkpoint_epoch_(\d+)\.pth", path.name), path) for path in folder.glob("*.pth"))
    return [path for _, path in sorted((int(match[1]), path) for match, path in named if match)]


def load_config(folder: Path) -> dict[str, Any]:
    """Read an experiment's config.json.

    Raises:
        InputError: no such file, or not a JSON object.
    """
    path = folder / CONFIG
    config = read_json(path, "not a readable config")
    if not isinstance(config, dict):
        raise InputError(f"{path}: not a readable config: it holds no JSON object")
    return config
