"""What a training shows the person who watches it: messages on stderr, a progress bar where that is a terminal."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from dploss.config import DATA, ENCODER, LOSS, OPTIONS, TRAINING, TrainConfig
from dploss.experiments.history import Recall, TrainHistory
from dploss.experiments.record import ExperimentRecord
from dploss.text import aligned, duration, shown

if TYPE_CHECKING:
    from dploss.training.trainer import Trainer

_SHOWN_APART = ("data", "images", "loss_function", "device")


class Progress:
    """Prints a training's lines.

    Args:
        quiet: print only warnings.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet

    def log(self, text: str) -> None:
        """Print a line."""
        if not self.quiet:
            tqdm.write(text, file=sys.stderr)

    def warn(self, text: str) -> None:
        """Print a warning, also when quiet."""
        tqdm.write(f"warning: {text}", file=sys.stderr)

    def header(self, record: ExperimentRecord, folder: Path, device: str, history: TrainHistory) -> None:
        """Print what is about to be trained: the experiment, its folder, data, loss and every setting."""
        config, split = record.config, record.split
        rows = f", {split.train_rows:,} to train on, {split.held_out_rows:,} held out" if split else ""
        lines = {
            "experiment": shown(record.origin.experiment_id),
            "folder": str(folder),
            "data": f"{record.data.path}: {record.data.rows:,} rows of {record.input_dim} dimensions{rows}",
            "loss": config.loss_function,
            "device": device,
            "settings": ", ".join(f"{name}={shown(getattr(config, name))}" for name in _worth_showing(config)),
        }
        if history.pca_recall is not None:
            recall = history.recall(history.pca_recall)
            lines["PCA"] = f"{record.input_dim} -> {config.latent_dim} keeps held-out {recall}"
        if history.epochs:
            lines["resumed"] = f"after epoch {history.epochs[-1]}"
        for line in aligned(lines):
            self.log(line)

    def steps(self, trainer: "Trainer", batches: Iterable[np.ndarray]) -> Iterable[np.ndarray]:
        """The batches of an epoch, under a bar; nothing is drawn where stderr is no terminal."""
        return tqdm(
            batches,
            desc=f"epoch {trainer.epoch + 1}/{trainer.config.epochs}",
            initial=trainer.step - trainer.epoch * trainer.steps_per_epoch,
            total=trainer.steps_per_epoch,
            unit="step",
            leave=False,
            disable=self.quiet or not sys.stderr.isatty(),
        )

    def epoch(self, history: TrainHistory, epochs: int) -> None:
        """Print the last epoch's losses, its time, and the time still to come."""
        number, seconds = history.epochs[-1], history.epoch_times[-1]
        recent = history.epoch_times[-10:]
        left = (epochs - number) * sum(recent) / len(recent)
        self.log(
            f"epoch {number:>{len(str(epochs))}}/{epochs}  total {history.total_loss[-1]:.6g}  "
            f"rank {history.rank_loss[-1]:.6g}  pairdist {history.pairdist_loss[-1]:.6g}  "
            f"{seconds:.2f} s  ETA {duration(left)}"
        )

    def checkpoint(self, path: Path, recall: Recall | None, pca_recall: float | None) -> None:
        """Print that a checkpoint was saved, and how its recall compares with PCA's."""
        self.log(f"  saved {path.name}" + (f"  {versus_pca(recall, pca_recall)}" if recall else ""))


def _worth_showing(config: TrainConfig) -> Sequence[str]:
    """Settings that decide this training's result, and others that are not as they are by default."""
    names = []
    for name, setting in OPTIONS.items():
        value = getattr(config, name)
        changed = value != (setting.default if config.images is None else setting.image_default)
        decides = setting.group in (DATA, ENCODER, LOSS, TRAINING) and value is not None
        if (decides or changed) and name not in _SHOWN_APART:
            names.append(name)
    return names


def summary(history: TrainHistory, folder: Path) -> str:
    """The result of a training in a few lines, for a person."""
    lines = [f"{history.status}: {len(history.epochs)} epochs in {history.cumulative_time[-1]:.1f} s of training"]
    if history.recall_history:
        lines.append(versus_pca(history.recall(history.recall_history[-1]), history.pca_recall))
    for dim, values in history.recall_by_dim.items():
        gain = versus_pca(history.recall(values[-1]), history.pca_recall_by_dim.get(dim))
        lines.append(f"first {dim} dimensions: {gain}")
    return "\n".join([*lines, str(folder)])


def versus_pca(recall: Recall, pca_recall: float | None) -> str:
    """A recall beside PCA's: "held-out recall@5 0.8123 on 1,000 rows (PCA 0.8011, +0.0112)"."""
    if pca_recall is None:
        return f"held-out {recall}"
    return f"held-out {recall} (PCA {pca_recall:.4f}, {recall.value - pca_recall:+.4f})"
