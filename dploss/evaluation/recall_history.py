"""Recall@k of an experiment over its epochs: as recorded while it trained, or measured now from its checkpoints.

What is measured is kept in the experiment's folder, in recall.json, and holds as long as the checkpoint's size and
time of change stay the same. torch is imported only where something has to be measured.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

from dploss.errors import InputError
from dploss.experiments.catalog import Experiment
from dploss.experiments.history import MOST_EPOCHS, MeasuredRecall, Recall
from dploss.experiments.layout import LATEST, epoch_checkpoints
from dploss.files.atomic import write_json
from dploss.files.untrusted import read_json

CACHE = "recall.json"


def recorded_recall(experiment: Experiment) -> list[MeasuredRecall]:
    """What the training itself measured; k and rows are 0 where the history does not say."""
    history = experiment.history
    k, rows = history.recall_k or 0, history.recall_rows or 0
    return [
        MeasuredRecall(epoch, Recall(value, k, rows))
        for epoch, value in zip(history.recall_epochs, history.recall_history, strict=True)
    ]


def with_latest(recorded: list[MeasuredRecall], latest: MeasuredRecall) -> list[MeasuredRecall]:
    """The recorded recalls up to the latest, which is measured; it alone where they are of other rows or another k."""
    if any((one.recall.k, one.recall.rows) != (latest.recall.k, latest.recall.rows) for one in recorded):
        return [latest]
    return [*(one for one in recorded if one.epoch < latest.epoch), latest]


def measured_recall(
    experiment: Experiment,
    every_checkpoint: bool = False,
    warn: Callable[[str], None] = lambda text: None,
    progress: Callable[[list[Path]], Iterable[Path]] = lambda paths: paths,
) -> list[MeasuredRecall]:
    """Measure latest_model.pth, or every checkpoint, on held-out rows of the experiment's own data.

    Args:
        experiment: whose checkpoints to measure; its config names the data and the split.
        every_checkpoint: the kept ones too.
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
    measured = {path: known for path in paths if (known := cache.get(path))}
    missing = [path for path in paths if path not in measured]
    if missing:
        measured |= _measure(experiment, missing, cache, warn, progress)
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
    cache: "_Cache",
    warn: Callable[[str], None],
    progress: Callable[[list[Path]], Iterable[Path]],
) -> dict[Path, MeasuredRecall]:
    from dploss.data.experiment_data import open_experiment_data
    from dploss.evaluation.recall import RecallEvaluator
    from dploss.evaluation.stored import stored_recall
    from dploss.experiments.checkpoints import load_checkpoint
    from dploss.models.build import encoder_of

    record = experiment.record()
    data = open_experiment_data(record)
    if not len(data.held_out_index):
        raise InputError(f"{experiment.folder}: its training held out no rows")
    evaluator = RecallEvaluator(record.config.k, seed=record.config.seed)
    rows = data.vectors.rows[data.held_out_index[evaluator.sample(len(data.held_out_index))]]
    measured = {}
    for path in progress(paths):
        try:
            # Before it is opened: a training that replaces the file meanwhile leaves an entry that no longer holds.
            state = path.stat()
            checkpoint = load_checkpoint(path)
            encoder = encoder_of(checkpoint, path)
            latents, code = encoder.encode(rows), encoder.code
            recall = (
                evaluator.evaluate(rows, latents) if code is None else stored_recall(evaluator, rows, latents, code)
            )
        except (OSError, ValueError) as error:
            warn(f"{error}; it is left out")
            continue
        measured[path] = MeasuredRecall(checkpoint["epoch"], recall)
        cache.put(path, state.st_size, state.st_mtime_ns, measured[path])
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

    def get(self, checkpoint: Path) -> MeasuredRecall | None:
        """What was measured of this very file."""
        state = checkpoint.stat()
        try:
            entry = self.entries[checkpoint.name]
            if (entry["size"], entry["mtime_ns"]) != (state.st_size, state.st_mtime_ns):
                return None
            epoch, recall = entry["epoch"], entry["recall"]
            value, counts = recall["value"], (epoch, recall["k"], recall["rows"])
            sane = 0 <= value <= 1 and all(type(count) is int and 0 <= count <= MOST_EPOCHS for count in counts)
            return MeasuredRecall(epoch, Recall(float(value), recall["k"], recall["rows"])) if sane else None
        except (KeyError, TypeError):
            return None

    def put(self, checkpoint: Path, size: int, mtime_ns: int, measured: MeasuredRecall) -> None:
        """Remember a measurement of the file as it was when it was opened."""
        self.entries[checkpoint.name] = {"size": size, "mtime_ns": mtime_ns, **asdict(measured)}

    def save(self) -> None:
        """Write recall.json, without checkpoints that are gone."""
        folder = self.path.parent
        write_json(self.path, {name: entry for name, entry in self.entries.items() if (folder / name).is_file()})
