"""What a training tells the person who watches it: messages on stderr, a bar where that is a terminal."""

import sys
from contextlib import AbstractContextManager
from dataclasses import fields
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dploss.config import TrainConfig
from dploss.experiments.history import Recall, TrainHistory
from dploss.text import aligned, duration, shown
from dploss.training_settings import DATA, ENCODER, LOSS, TRAINING


class Progress:
    """Prints a training's lines.

    Args:
        quiet: print only warnings.
        silent: print nothing at all: another process speaks.
    """

    def __init__(self, quiet: bool = False, silent: bool = False) -> None:
        self.quiet = quiet or silent
        self.silent = silent

    def say(self, text: str) -> None:
        """Print a line of news."""
        if not self.quiet:
            tqdm.write(text, file=sys.stderr)

    def warn(self, text: str) -> None:
        """Print a warning, also when quiet."""
        if not self.silent:
            tqdm.write(f"warning: {text}", file=sys.stderr)

    def start(self, record: dict[str, Any], folder: Path, device: str, history: TrainHistory) -> None:
        """Print what is about to be trained: the experiment, its folder, data, loss and every setting."""
        data, split = record["data"], record["split"]
        lines = {
            "experiment": record["experiment_id"],
            "folder": str(folder),
            "data": f"{data['path']}: {data['rows']:,} rows of {record['input_dim']} numbers, "
            f"{split['train_rows']:,} to train on, {split['held_out_rows']:,} held out",
            "loss": record["loss_function"],
            "device": device,
            "settings": ", ".join(f"{name}={shown(record[name])}" for name in _worth_saying(record)),
        }
        if history.pca_recall is not None:
            recall = Recall(history.pca_recall, history.recall_k, history.recall_rows)
            lines["PCA"] = f"{record['input_dim']} -> {record['latent_dim']} keeps held-out {recall}"
        if history.epochs:
            lines["resumed"] = f"after epoch {history.epochs[-1]}"
        for line in aligned(lines):
            self.say(line)

    def bar(self, epoch: int, epochs: int, done: int, steps: int) -> AbstractContextManager[tqdm]:
        """A bar over one epoch's steps; nothing is drawn where stderr is no terminal."""
        hidden = self.quiet or not sys.stderr.isatty()
        return tqdm(
            desc=f"epoch {epoch}/{epochs}",
            initial=done,
            total=steps,
            unit="step",
            leave=False,
            disable=hidden,
        )

    def epoch(self, history: TrainHistory, epochs: int) -> None:
        """Print the last epoch's losses, its time, and the time still to come."""
        number, seconds = history.epochs[-1], history.epoch_times[-1]
        recent = history.epoch_times[-10:]
        left = (epochs - number) * sum(recent) / len(recent)
        self.say(
            f"epoch {number:>{len(str(epochs))}}/{epochs}  total {history.total_loss[-1]:.6g}  "
            f"rank {history.rank_loss[-1]:.6g}  pairdist {history.pairdist_loss[-1]:.6g}  "
            f"{seconds:.2f} s  ETA {duration(left)}"
        )

    def checkpoint(self, path: Path, recall: Recall | None, pca_recall: float | None) -> None:
        """Print that a checkpoint was saved, and how its recall compares with PCA's."""
        self.say(f"  saved {path.name}" + (f"  {versus_pca(recall, pca_recall)}" if recall else ""))


def _worth_saying(record: dict[str, Any]) -> list[str]:
    """Settings that decide this training's result, and others that are not as they are by default."""
    images = record["images"] is not None
    names = []
    for setting in fields(TrainConfig):
        about = setting.metadata
        changed = record[setting.name] != about["defaults"][images]
        always = about["group"] in (DATA, ENCODER, LOSS, TRAINING) and record[setting.name] is not None
        if (always or changed) and setting.name not in ("data", "images", "loss_function", "device"):
            names.append(setting.name)
    return names


def summary(history: TrainHistory, folder: Path) -> str:
    """The result of a training in a few lines, for a person."""
    lines = [f"{history.status}: {len(history.epochs)} epochs in {history.cumulative_time[-1]:.1f} s of training"]
    if history.recall_history:
        recall = Recall(history.recall_history[-1], history.recall_k, history.recall_rows)
        lines.append(versus_pca(recall, history.pca_recall))
    for dim, values in history.recall_by_dim.items():
        recall = Recall(values[-1], history.recall_k, history.recall_rows)
        lines.append(f"first {dim} numbers: {versus_pca(recall, history.pca_recall_by_dim[dim])}")
    return "\n".join([*lines, str(folder)])


def versus_pca(recall: Recall, pca_recall: float) -> str:
    """A recall beside PCA's: "recall@5 0.8123 on 1,000 rows (PCA 0.8011, +0.0112)"."""
    return f"held-out {recall} (PCA {pca_recall:.4f}, {recall.value - pca_recall:+.4f})"
