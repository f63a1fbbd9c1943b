"""What a training shows the person who watches it: messages on stderr, a progress bar where that is a terminal."""

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
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
        for name, value in history.baselines().items():
            lines[name] = f"held-out {history.recall(value)}"
        if history.epochs or history.recall_epochs:
            lines["resumed"] = f"after epoch {history.epochs[-1] if history.epochs else 0}"
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

    def checkpoint(self, path: Path, recall: Recall | None, history: TrainHistory) -> None:
        """Print that a checkpoint was saved, and how its recall compares with the strongest baseline's."""
        if recall is None:
            self.log(f"  saved {path.name}")
        elif history.epochs:
            self.log(f"  saved {path.name}  {versus_baseline(recall, history)}")
        else:
            self.log(f"start {recall.value:.4f}, saved as {path.name}")


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
    """The result of a training in a few lines: what the best checkpoint keeps, and what the training gained."""
    seconds = history.cumulative_time[-1] if history.cumulative_time else 0.0
    lines = [f"{history.status}: {len(history.epochs)} epochs in {seconds:.1f} s of training"]
    if history.recall_history:
        lines += _results(history)
    for dim, values in history.recall_by_dim.items():
        gain = versus_baseline(history.recall(values[history.recall_epochs.index(best_epoch(history))]), history, dim)
        lines.append(f"first {dim} dimensions: {gain}")
    return "\n".join([*lines, str(folder)])


def _results(history: TrainHistory) -> list[str]:
    """The recall of best.pt and of the last checkpoint, the baselines', and the gain over the strongest of them."""
    recalls = dict(zip(history.recall_epochs, history.recall_history, strict=True))
    last = history.recall_epochs[-1]
    best = best_epoch(history)
    parts = [f"last epoch {recalls[last]:.4f}"] if best != last and recalls[best] != recalls[last] else []
    parts += [f"{name} {value:.4f}" for name, value in history.baselines().items()]
    where = f"best.pt, epoch {best}: " if any(one.is_best for one in history.evaluations) else ""
    lines = [f"{where}held-out {history.recall(recalls[best])} ({'; '.join(parts)})"]
    if not history.epochs:
        return lines
    start = history.start_recall
    # Small sizes of a Matryoshka encoder gain at the cost of its largest, and have lines of their own.
    if start is not None and recalls[best] <= start and (best == 0 or not history.recall_by_dim):
        kept = ", and best.pt is that start, without training" if best == 0 else ""
        return [*lines, f"training gained nothing over its start{kept}"]
    name, value = strongest(history.baselines())
    return [*lines, f"{recalls[best] - value:+.4f} against the strongest of them, {name}"] if name else lines


def best_epoch(history: TrainHistory) -> int:
    """Of best.pt, where there is one and its recall is known; else the last one of known recall."""
    known = history.recall_epochs
    return next((one.epoch for one in reversed(history.evaluations) if one.is_best and one.epoch in known), known[-1])


def strongest(baselines: Mapping[str, float]) -> tuple[str, float]:
    """The name and the recall of the baseline that keeps most; "" and NaN where there is none."""
    return max(baselines.items(), key=lambda item: item[1], default=("", math.nan))


def versus_baseline(recall: Recall, history: TrainHistory, dim: str | None = None) -> str:
    """A recall beside that of the strongest baseline: "held-out recall@5 0.8123 on 1,000 rows (start 0.8011, +0.0112)".

    Args:
        recall: of a checkpoint.
        history: its training's.
        dim: a size of a Matryoshka encoder, as text; None: the whole latents.
    """
    name, value = strongest(history.baselines(dim))
    return f"held-out {recall} ({name} {value:.4f}, {recall.value - value:+.4f})" if name else f"held-out {recall}"
