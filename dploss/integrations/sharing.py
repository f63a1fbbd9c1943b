"""share: an encoder as a folder that others can load, and the Hugging Face Hub can hold."""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from dploss.config import OPTIONS, TrainConfig
from dploss.errors import InputError
from dploss.experiments.catalog import find_checkpoint, is_best
from dploss.experiments.checkpoints import load_checkpoint
from dploss.experiments.history import TrainHistory
from dploss.experiments.layout import SHARED
from dploss.experiments.record import ExperimentRecord
from dploss.experiments.shared import write_shared
from dploss.experiments.summary import LOSSES
from dploss.integrations.model_card import ModelCard
from dploss.models.build import encoder_of

# Of all settings that are any text, the one that is no path.
_COLUMN = "column"


def share(reference: str | Path, folder: str | Path, checkpoints_dir: str | Path = TrainConfig.checkpoints_dir) -> Path:
    """Write an encoder to a folder: model.safetensors, config.json and README.md, its model card.

    `load_encoder(folder)` gives the same encoder, its code included, to the last bit. Nothing is pickled. Of paths the
    names alone are written, not the folders that they are in; the optimizer and other states of the training are not.

    Args:
        reference: what `load_encoder` takes.
        folder: made if need be; what would be written must not be in it.
        checkpoints_dir: the folder of all experiments, for an id.

    Returns:
        The folder.

    Raises:
        InputError: no such encoder, one that is shared already, or a file that exists.
        OSError: the folder cannot be written; nothing is left in it then.
    """
    path = find_checkpoint(reference, checkpoints_dir)
    if path.name == SHARED:
        raise InputError(f"{path.parent}: it is shared already: copy the folder")
    checkpoint = load_checkpoint(path)
    encoder = encoder_of(checkpoint, path)
    record = _public(ExperimentRecord.from_dict(checkpoint["config"]))
    history = TrainHistory.from_dict(checkpoint["train_history"])
    chosen = is_best(path) and record.config.metric_name not in LOSSES
    card = ModelCard(encoder, record, history, checkpoint["epoch"], chosen)
    folder = Path(os.path.expanduser(folder))
    write_shared(folder, {**checkpoint, "config": record.as_dict()}, card.text())
    return folder


def _public(record: ExperimentRecord) -> ExperimentRecord:
    """A record whose paths are names alone."""
    texts = [name for name, one in OPTIONS.items() if one.kind is str and not one.choices and name != _COLUMN]
    values = {name: getattr(record.config, name) for name in texts}
    named: dict[str, Any] = {name: value and _name(value) for name, value in values.items()}
    config = replace(record.config, **named)
    return replace(record, config=config, data=replace(record.data, path=_name(record.data.path)))


def _name(path: str) -> str:
    """The last part of a path of any system."""
    return re.split(r"[/\\:]", path.rstrip("/\\"))[-1]
