"""CheckpointManager: the folder of one experiment, checkpoints/<uuid>/, and the `.pth` files in it."""

import os
import uuid
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NotRequired, TypedDict, get_type_hints

import torch
from filelock import FileLock

from dploss.errors import InputError
from dploss.experiments.history import TrainHistory
from dploss.experiments.layout import CONFIG, HISTORY, LATEST, SHARED, epoch_checkpoint
from dploss.experiments.record import ExperimentRecord
from dploss.experiments.shared import read_shared
from dploss.files.atomic import atomic_write, remove_stale_temporaries, write_json
from dploss.files.given import expanded
from dploss.files.locks import lock_experiment
from dploss.files.torch_archive import read_archive


class Checkpoint(TypedDict):
    """What a `.pth` holds: plain values and tensors alone.

    So `torch.load(path)` reads it under weights_only=True without this package.

    Attributes:
        epoch: finished epochs.
        step: optimizer steps done since the beginning of the training.
        model_state_dict: of a DPEncoder or a ConvAutoencoder.
        optimizer_state_dict: of torch.optim.Adam.
        scheduler_state_dict: of torch.optim.lr_scheduler.LambdaLR.
        train_history: what train_history.json holds.
        config: what config.json holds.
        rng_state: states of torch's generators, by device.
        partial_epoch: loss_sums and seconds of the steps beyond `epoch`; zeros but for an interrupted epoch.
        code: of a training with --bytes, how latents are stored: the name and the arrays of a dploss.codes.Code.
    """

    epoch: int
    step: int
    model_state_dict: dict
    optimizer_state_dict: dict
    scheduler_state_dict: dict
    train_history: dict
    config: dict
    rng_state: dict
    partial_epoch: dict
    code: NotRequired[dict]


_KINDS = get_type_hints(Checkpoint)


class CheckpointManager:
    """Writes what one experiment leaves behind; every file is replaced whole.

    Args:
        checkpoints_dir: the folder of all experiments.
        experiment_id: an existing experiment's; a new UUID by default.

    Attributes:
        experiment_id: the name of the experiment's folder.
        folder: that folder; it exists once `lock` was called.
    """

    def __init__(self, checkpoints_dir: str | Path, experiment_id: str | None = None) -> None:
        self.experiment_id = experiment_id or str(uuid.uuid4())
        self.folder = expanded(checkpoints_dir) / self.experiment_id
        self._lock: FileLock | None = None

    def lock(self) -> None:
        """Make the folder, if need be, and become the only one who writes in it.

        Raises:
            InputError: another process trains the experiment.
            OSError: the folder cannot be made or written.
        """
        if self._lock is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = lock_experiment(self.folder)

    def unlock(self) -> None:
        """Let others write in the folder."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """`lock` at the start of a block, if need be, and `unlock` at its end."""
        self.lock()
        try:
            yield
        finally:
            self.unlock()

    def create(self, record: ExperimentRecord) -> None:
        """Make the folder, if need be, free it of temporary files of a killed process, and write config.json."""
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_stale_temporaries(self.folder)
        write_json(self.folder / CONFIG, record.as_dict())

    def save_latest(self, state: Checkpoint) -> Path:
        """Replace latest_model.pth, which --resume starts from."""
        return self._save(LATEST, state)

    def save_epoch(self, state: Checkpoint) -> Path:
        """Write checkpoint_epoch_NNN.pth, NNN being the state's finished epochs."""
        return self._save(epoch_checkpoint(state["epoch"]), state)

    def save_history(self, history: TrainHistory) -> None:
        """Replace train_history.json."""
        history.save(self.folder / HISTORY)

    def _save(self, name: str, state: Checkpoint) -> Path:
        path = self.folder / name
        with atomic_write(path) as file:
            try:
                torch.save(state, file)
            except RuntimeError as error:
                # Where a write fails torch closes its archive, which fails too, and hides the reason.
                raise error.__context__ or error from None
        return path


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a `.pth` of ours, or a shared encoder's model.safetensors, onto the CPU; nothing in it is executed.

    Raises:
        InputError: no such file, or not a `Checkpoint`: a key is missing, or of another type.
    """
    path = expanded(path)
    if not os.path.exists(path):
        raise InputError(f"{path}: no such checkpoint")
    try:
        checkpoint: Any = read_shared(path) if path.suffix == Path(SHARED).suffix else read_archive(path)
    except OSError as error:
        raise InputError(f"{path}: not a readable checkpoint: {error.strerror}") from error
    required = Checkpoint.__required_keys__
    missing = [key for key in _KINDS if key in required and not (isinstance(checkpoint, dict) and key in checkpoint)]
    if missing:
        raise InputError(f"{path}: not a checkpoint of dploss, it lacks {', '.join(missing)}")
    for key, kind in _KINDS.items():
        if key in checkpoint and type(checkpoint[key]) not in (kind, OrderedDict if kind is dict else kind):
            raise InputError(f"{path}: not a checkpoint of dploss, its {key} is a {type(checkpoint[key]).__name__}")
    return checkpoint
