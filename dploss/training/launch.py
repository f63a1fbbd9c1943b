"""From settings to a Trainer that is ready to run: a new experiment, or one that goes on."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from dploss.config import TrainConfig
from dploss.config_field import flag_name
from dploss.data.experiment_data import open_experiment_vectors, open_rows
from dploss.errors import InputError
from dploss.experiments.catalog import find_experiment, open_experiment, refuse_links
from dploss.experiments.checkpoints import CheckpointManager
from dploss.experiments.layout import LATEST, load_config
from dploss.experiments.provenance import origin
from dploss.training.distributed import leads
from dploss.training.progress import Progress
from dploss.training.trainer import Trainer


def new_experiment(config: TrainConfig) -> Trainer:
    """Open the vectors and prepare a training from its start; nothing is written yet.

    Raises:
        InputError: vectors or settings that cannot be used.
    """
    manager = CheckpointManager(config.checkpoints_dir)
    trainer = Trainer(
        config, open_rows(config), manager, Progress(config.quiet, not leads()), origin(manager.experiment_id)
    )
    trainer.start()
    return trainer


def resumed_experiment(reference: str, given: dict[str, Any]) -> Trainer:
    """Open an experiment and prepare to go on from its latest checkpoint, or from the one that is named.

    An experiment that was stopped before its first checkpoint starts again, under its own settings.

    Args:
        reference: its UUID, a unique prefix, or the path of its folder or of one of its checkpoints.
        given: settings given anew; one that decides what is trained must equal the experiment's own.

    Raises:
        InputError: no such experiment, one that is being trained, other settings or rows than its own, or an unusable
            checkpoint.
    """
    folder = find_experiment(given.get("checkpoints_dir", TrainConfig.checkpoints_dir), reference)
    manager = CheckpointManager(folder.parent, folder.name)
    # Before anything is read: what another process writes meanwhile would be lost.
    if leads():
        manager.lock()
    try:
        return _resumed(manager, reference, given)
    except BaseException:
        manager.unlock()
        raise


def _is_complete(trainer: Trainer) -> bool:
    """Whether nothing is left to train, or to write: a training can be killed between its last step and its history."""
    try:
        return trainer.step > trainer.steps or (
            trainer.step == trainer.steps and open_experiment(trainer.manager.folder).history.status == "completed"
        )
    except InputError:
        return False


def _resumed(manager: CheckpointManager, reference: str, given: dict[str, Any]) -> Trainer:
    folder = manager.folder
    refuse_links(folder)
    stored = load_config(folder)
    config = TrainConfig.from_experiment(stored)
    asked = replace(config, **{"quiet": False} | given | {"checkpoints_dir": str(folder.parent)})
    for setting in fields(config):
        old, new = getattr(config, setting.name), getattr(asked, setting.name)
        if old != new and not setting.metadata["on_resume"]:
            flag = flag_name(setting.name)
            raise InputError(f"{flag} {new}: experiment {folder.name} has {old}; leave {flag} out to resume it")
    vectors = open_experiment_vectors(asked, stored)
    trainer = Trainer(asked, vectors, manager, Progress(asked.quiet, not leads()), stored)
    checkpoint = Path(reference) if reference.endswith(".pth") else folder / LATEST
    if checkpoint.exists():
        trainer.restore(checkpoint)
    else:
        trainer.start()
    if _is_complete(trainer):
        raise InputError(f"experiment {folder.name} has its {trainer.epoch} epochs; give more with --epochs to go on")
    return trainer
