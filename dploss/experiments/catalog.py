"""Find, list and open experiments under the checkpoints folder. Imports no torch."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dploss.errors import InputError, SettingError
from dploss.experiments.history import TrainHistory
from dploss.experiments.layout import CONFIG, HISTORY, LATEST, SHARED, load_config
from dploss.experiments.record import ExperimentRecord
from dploss.files.given import expanded
from dploss.files.links import points_outside
from dploss.files.locks import was_abandoned
from dploss.tracking.best_links import BEST

_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SHORT = 8
# Files of an encoder, known by their names where they are not there.
_CHECKPOINTS = (".pth", ".pt", ".safetensors")


@dataclass(frozen=True)
class Experiment:
    """One training, as its folder tells it.

    Attributes:
        folder: checkpoints/<id>/.
        config: what config.json holds, to be shown; empty where another program wrote the history without one.
        history: what train_history.json holds.
        created: when the training began, with its time zone; the history's last change where config.json does not say.
    """

    folder: Path
    config: Mapping[str, Any]
    history: TrainHistory
    created: datetime

    @property
    def id(self) -> str:
        """The folder's name."""
        return self.folder.absolute().name

    def record(self) -> ExperimentRecord:
        """The settings and the data, read from `config`.

        Raises:
            InputError: config.json is missing, or lacks them.
        """
        return ExperimentRecord.from_dict(self.config)


def find_experiment(checkpoints_dir: str | Path, reference: str) -> Path:
    """The folder of one experiment.

    Args:
        checkpoints_dir: the folder of all experiments.
        reference: its UUID, a prefix that only it has, or a path: of its folder or of a file in it.

    Raises:
        InputError: none or several answer to the reference.
    """
    path = expanded(reference)
    for folder in (path, path.parent):
        if os.path.exists(path) and _is_experiment(folder):
            return folder if folder.name else folder.absolute()
    home = expanded(checkpoints_dir)
    ids = [folder.name for folder in _folders(home) if _is_experiment(folder) and not points_outside(folder, home)]
    if not ids:
        raise no_experiment(checkpoints_dir)
    return home / match_id(ids, reference, str(checkpoints_dir))


def find_checkpoint(reference: str | Path, checkpoints_dir: str | Path) -> Path:
    """The file of an encoder.

    Args:
        reference: a checkpoint; a folder that `checkpoint_in` takes; or the UUID of an experiment, or a prefix that
            only it has. A path that exists is taken as a path, ~ being the home folder.
        checkpoints_dir: the folder of all experiments.

    Raises:
        InputError: there is none.
    """
    if not isinstance(reference, str | os.PathLike):
        raise InputError(f"an encoder is named by text or a path, got {reference!r}")
    name = os.path.expanduser(reference)
    path = Path(name)
    if os.path.isdir(name):
        return checkpoint_in(path)
    if os.path.exists(name) or path.suffix in _CHECKPOINTS:
        return path
    hub = re.fullmatch(r"(?:hf://)?([\w.-]+/[\w.-]+)", str(reference))
    if hub:
        fetched = f"hf download {hub[1]} --local-dir {hub[1].partition('/')[2]}"
        raise InputError(f"{reference}: no such folder; an encoder of the Hugging Face Hub is fetched by {fetched}")
    if len(path.parts) > 1:
        raise InputError(f"{reference}: no such folder")
    return checkpoint_in(find_experiment(checkpoints_dir, name))


def checkpoint_in(folder: Path) -> Path:
    """The encoder in a folder: of an experiment the best checkpoint, else the latest; or one that is shared.

    Raises:
        InputError: there is none, or a link out of the experiment's folder.
    """
    for name in (BEST, LATEST):
        if (folder / name).is_file():
            _refuse_link(folder / name)
            return folder / name
    if not (folder / SHARED).is_file():
        raise InputError(f"{folder}: no {BEST}, {LATEST} or {SHARED} in it")
    return folder / SHARED


def is_best(checkpoint: Path) -> bool:
    """Whether a checkpoint is the one that its experiment's tracker chose."""
    best = checkpoint.parent / BEST
    return best.is_file() and best.samefile(checkpoint)


def match_id(ids: Sequence[str], reference: str, where: str) -> str:
    """The one of `ids` that is `reference`, or the only one that starts with it.

    Raises:
        InputError: none or several do; the message says `where` they were looked for.
    """
    matches = [name for name in ids if reference and name.startswith(reference)]
    if not matches:
        raise InputError(f"no experiment {reference!r} in {where}; there are {_some(ids)}")
    if len(matches) > 1 and reference not in matches:
        raise InputError(f"several experiments start with {reference!r}: {_some(matches)}; give more of the id")
    return reference if reference in matches else matches[0]


def open_experiment(folder: Path) -> Experiment:
    """Read an experiment's config and history.

    A training that was killed could not write down that it stopped: it is found to be interrupted.

    Raises:
        InputError: no history there, a file that cannot be read, or a link that leads out; the message names it.
    """
    refuse_links(folder)
    path = folder / HISTORY
    if not path.is_file():
        raise InputError(f"{folder}: no {HISTORY} in it")
    config = load_config(folder) if (folder / CONFIG).exists() else {}
    history = TrainHistory.load(path)
    if history.status == "running" and was_abandoned(folder):
        history.status = "interrupted"
    try:
        created = datetime.fromisoformat(config["created"])
    except (KeyError, TypeError, ValueError):
        created = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return Experiment(folder, config, history, created if created.tzinfo else created.replace(tzinfo=UTC))


def refuse_links(folder: Path) -> None:
    """See that an experiment's files are its own: it may come from anywhere.

    Raises:
        InputError: one of them is a link out of the folder.
    """
    for path in folder.iterdir():
        _refuse_link(path)


def _refuse_link(path: Path) -> None:
    if points_outside(path, path.parent):
        raise InputError(f"{path}: a link out of its experiment's folder is not followed; remove it")


def list_experiments(checkpoints_dir: str | Path) -> tuple[list[Experiment], list[str]]:
    """Open every experiment.

    Returns:
        The experiments, newest first, and a line about each folder that is none.
    """
    experiments, skipped = [], []
    for folder in _folders(checkpoints_dir):
        if points_outside(folder, Path(checkpoints_dir)):
            skipped.append(f"{folder}: a link out of {checkpoints_dir} is not followed; give its own path")
            continue
        try:
            experiments.append(open_experiment(folder))
        except InputError as error:
            skipped.append(str(error))
    return sorted(experiments, key=lambda one: (one.created, one.id), reverse=True), skipped


def finished_experiments(checkpoints_dir: str | Path) -> tuple[list[Experiment], list[str]]:
    """Open every experiment that has a finished epoch, or was to have none.

    Returns:
        At least one experiment, newest first, and a line about each folder that is left out.

    Raises:
        InputError: there are none.
    """
    experiments, skipped = list_experiments(checkpoints_dir)
    skipped += [_unfinished(one) for one in experiments if not _has_result(one)]
    experiments = [one for one in experiments if _has_result(one)]
    if not experiments:
        raise no_experiment(checkpoints_dir, skipped[:3])
    return experiments, skipped


def finished_experiment(checkpoints_dir: str | Path, reference: str) -> Experiment:
    """Find and open one experiment.

    Args:
        checkpoints_dir: the folder of all experiments.
        reference: see `find_experiment`.

    Raises:
        InputError: none or several answer to the reference, it cannot be read, or it has no finished epoch.
    """
    experiment = open_experiment(find_experiment(checkpoints_dir, reference))
    if not _has_result(experiment):
        raise InputError(_unfinished(experiment))
    return experiment


def _has_result(experiment: Experiment) -> bool:
    return bool(experiment.history.epochs) or experiment.history.status == "completed"


def _unfinished(experiment: Experiment) -> str:
    return f"{experiment.folder}: no epoch is finished yet"


def no_experiment(checkpoints_dir: str | Path, details: Sequence[str] = ()) -> SettingError:
    """The error where there is none; the details say why folders were left out."""
    template = "no experiment in {folder}: train.py makes one, {checkpoints_dir} names another folder{details}"
    return SettingError(template, folder=checkpoints_dir, details="".join(f"; {one}" for one in details))


def short_ids(ids: Sequence[str]) -> dict[str, str]:
    """For every UUID its first 8 characters, or as many as tell all of them apart; other names stay whole."""
    uuids = {name for name in ids if _UUID.fullmatch(name)}
    length = _SHORT
    while len({name[:length] for name in uuids}) < len(uuids):
        length += 1
    return {name: name[:length] if name in uuids else name for name in ids}


def short_id(folder: Path) -> str:
    """What names an experiment among those beside it: the first 8 characters of its UUID, or as many as it takes."""
    name, length = folder.absolute().name, _SHORT
    if not _UUID.fullmatch(name):
        return name
    others = [one.name for one in _folders(folder.parent) if _is_experiment(one) and one.name != name]
    while any(other.startswith(name[:length]) for other in others):
        length += 1
    return name[:length]


def _folders(checkpoints_dir: str | Path) -> list[Path]:
    folder = expanded(checkpoints_dir)
    if not folder.is_dir():
        return []
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _is_experiment(folder: Path) -> bool:
    return ((folder / CONFIG).is_file() or (folder / HISTORY).is_file()) and not (folder / SHARED).is_file()


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
