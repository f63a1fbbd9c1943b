"""Recall@k of an experiment over its epochs: as recorded while it trained, or measured now from its checkpoints.

What is measured is kept in the experiment's folder, in recall.json, and holds as long as the checkpoint's size and
time of change stay the same. torch is imported only where something has to be measured.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dploss.errors import InputError
from dploss.experiments.catalog import Experiment
from dploss.experiments.history import MOST_EPOCHS
from dploss.experiments.layout import LATEST, epoch_checkpoints
from dploss.experiments.recalls import MeasuredRecall, Recall
from dploss.files.atomic import write_json
from dploss.files.untrusted import read_json
from metrics.table import error_key

CACHE = "recall.json"
# Of every kept checkpoint, beside the training's own k.
OTHER_KS = (1, 10, 50)


def recorded_recall(experiment: Experiment) -> list[MeasuredRecall]:
    """What the training itself measured; k and rows are 0 where the history does not say."""
    history = experiment.history
    k, rows = history.recall_k or 0, history.recall_rows or 0
    # A Matryoshka encoder's evaluations have the mean over its sizes: not this value, nor its error.
    errors = {
        (one.epoch, values["recall"]): error
        for one in history.evaluations
        if "recall" in (values := one.values()) and 0 <= (error := values.get(error_key("recall"), math.nan)) <= 1
    }
    return [
        MeasuredRecall(epoch, Recall(value, k, rows, errors.get((epoch, value))))
        for epoch, value in zip(history.recall_epochs, history.recall_history, strict=True)
    ]


def with_measured(recorded: list[MeasuredRecall], measured: list[MeasuredRecall]) -> list[MeasuredRecall]:
    """The recorded recalls up to the last that is measured, the measured ones in place of those of their epochs.

    Args:
        recorded: may be of other rows or another k than the measured, and is left out then.
        measured: at least one, in order of epochs.
    """
    last = measured[-1]
    if any((one.recall.k, one.recall.rows) != (last.recall.k, last.recall.rows) for one in recorded):
        return measured
    by_epoch = {one.epoch: one for one in [*recorded, *measured] if one.epoch <= last.epoch}
    return [by_epoch[epoch] for epoch in sorted(by_epoch)]


def measured_recall(
    experiment: Experiment,
    every_checkpoint: bool = False,
    warn: Callable[[str], None] = lambda text: None,
    progress: Callable[[list[Path]], Iterable[Path]] = lambda paths: paths,
) -> list[MeasuredRecall]:
    """Measure latest_model.pth, or every checkpoint, on held-out rows of the experiment's own data.

    Args:
        experiment: whose checkpoints to measure; its config names the data and the split.
        every_checkpoint: the kept ones too, and all of them at `OTHER_KS` as well.
        warn: called with a line about a checkpoint that cannot be read, or measurements that cannot be kept.
        progress: wraps the checkpoints to go through, as tqdm does.

    Returns:
        In order of epochs, one an epoch.

    Raises:
        InputError: no checkpoint is there, or its data is gone, changed, or was not split.
    """
    paths = [*(epoch_checkpoints(experiment.folder) if every_checkpoint else []), experiment.folder / LATEST]
    paths = [path for path in paths if path.is_file()]
    if not paths:
        raise InputError(f"{experiment.folder}: no {LATEST} in it")
    cache = _Cache(experiment.folder)
    measured = {path: known for path in paths if (known := cache.get(path, every_checkpoint))}
    missing = [path for path in paths if path not in measured]
    if missing:
        measured |= _measure(experiment, missing, OTHER_KS if every_checkpoint else (), cache, warn, progress)
        try:
            cache.save()
        except OSError as error:
            warn(f"the recalls are not kept for the next time: {error}")
    if not measured:
        raise InputError(f"{experiment.folder}: no checkpoint in it can be read")
    by_epoch = {one.epoch: one for one in measured.values()}
    return [by_epoch[epoch] for epoch in sorted(by_epoch)]


def _measure(
    experiment: Experiment,
    paths: list[Path],
    other_ks: Sequence[int],
    cache: "_Cache",
    warn: Callable[[str], None],
    progress: Callable[[list[Path]], Iterable[Path]],
) -> dict[Path, MeasuredRecall]:
    from dploss.data.experiment_data import open_experiment_data
    from dploss.evaluation.held_out import HeldOut
    from dploss.experiments.checkpoints import load_checkpoint
    from dploss.models.build import encoder_of

    record = experiment.record()
    held_out = HeldOut.of(record.config, open_experiment_data(record))
    if not held_out:
        raise InputError(f"{experiment.folder}: its training held out no rows")
    own = record.config.k
    ks = [k for k in other_ks if k != own and k < len(held_out.index)]
    measured = {}
    for path in progress(paths):
        try:
            # Before it is opened: a training that replaces the file meanwhile leaves an entry that no longer holds.
            state = path.stat()
            checkpoint = load_checkpoint(path)
            encoder = encoder_of(checkpoint, path)
            # On its own, as the training measures it: to the last bit.
            recall, others = held_out.recall(encoder, encoder.code), held_out.recalls(encoder, ks, encoder.code)
        except (OSError, ValueError) as error:
            warn(f"{error}; it is left out")
            continue
        measured[path] = MeasuredRecall(checkpoint["epoch"], recall, tuple(others))
        cache.put(path, state.st_size, state.st_mtime_ns, measured[path], bool(other_ks))
    return measured


class _Cache:
    """recall.json: for every checkpoint's name its size, its time of change and what was measured."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / CACHE
        try:
            content = read_json(self.path, "not readable")
        except InputError:
            # Not there yet, or damaged: everything is measured anew.
            content = {}
        self.entries: dict = content if isinstance(content, dict) else {}

    def get(self, checkpoint: Path, with_others: bool) -> MeasuredRecall | None:
        """What was measured of this very file; None too where other k are wanted and were not measured."""
        state = checkpoint.stat()
        try:
            entry = self.entries[checkpoint.name]
            if (entry["size"], entry["mtime_ns"]) != (state.st_size, state.st_mtime_ns):
                return None
            epoch = entry["epoch"]
            recalls = [_recall(one) for one in [entry["recall"], *(entry["others"] if with_others else [])]]
            return MeasuredRecall(epoch, recalls[0], tuple(recalls[1:])) if _is_count(epoch) else None
        except (KeyError, TypeError, ValueError):
            return None

    def put(self, checkpoint: Path, size: int, mtime_ns: int, measured: MeasuredRecall, with_others: bool) -> None:
        """Remember a measurement of the file as it was when it was opened, and whether other k were measured."""
        entry = {"size": size, "mtime_ns": mtime_ns, **asdict(measured)}
        self.entries[checkpoint.name] = entry if with_others else entry | {"others": None}

    def save(self) -> None:
        """Write recall.json, without checkpoints that are gone."""
        folder = self.path.parent
        write_json(self.path, {name: entry for name, entry in self.entries.items() if (folder / name).is_file()})


def _recall(entry: Mapping[str, Any]) -> Recall:
    """A recall as recall.json has it.

    Raises:
        KeyError, TypeError, ValueError: it is damaged.
    """
    recall = Recall(**entry)
    shares = (recall.value, recall.standard_error or 0.0)
    if not (all(0 <= share <= 1 for share in shares) and _is_count(recall.k) and _is_count(recall.rows)):
        raise ValueError(f"no recall: {entry}")
    return recall


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MOST_EPOCHS
