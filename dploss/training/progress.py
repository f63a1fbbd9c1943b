"""What a training shows the person who watches it: messages on stderr, a progress bar where that is a terminal."""

import math
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from dploss.cli.messages import message_lines
from dploss.config import DATA, ENCODER, LOSS, OPTIONS, QUERIES, STORED, TRAINING, TrainConfig, applicable
from dploss.experiments.catalog import short_id
from dploss.experiments.history import TrainHistory
from dploss.experiments.recalls import Recall
from dploss.experiments.record import ExperimentRecord
from dploss.text import LINE, aligned, counted, display_width, duration, elided, shown, wrapped

if TYPE_CHECKING:
    from dploss.training.trainer import Trainer

_DECIDING = (DATA, QUERIES, ENCODER, STORED, LOSS, TRAINING)
_SHOWN_APART = ("data", "images", "loss_function", "device")
# Of what a line of facts shows, so that it stays one.
_PATH_WIDTH = 60
_MINUTE = 60


class Progress:
    """Prints a training's lines.

    Args:
        quiet: print only warnings.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet

    def log(self, text: str) -> None:
        """Print a message."""
        if not self.quiet:
            self._write(text)

    def warn(self, text: str) -> None:
        """Print a warning, also when quiet."""
        self._write(f"warning: {text}")

    def _write(self, text: str) -> None:
        for line in message_lines(text, sys.stderr):
            tqdm.write(line, file=sys.stderr)

    def header(self, record: ExperimentRecord, folder: Path, device: str, history: TrainHistory) -> None:
        """Print what is about to be trained: the experiment, its folder, data, loss and every setting."""
        config, split, dimensions = record.config, record.split, counted(record.input_dim, "dimension")
        lines = {
            "experiment": short_id(folder),
            "folder": elided(str(folder), _PATH_WIDTH),
            "data": f"{elided(record.data.path, _PATH_WIDTH)}: {record.data.rows:,} rows of {dimensions}",
            "split": f"{split.train_rows:,} to train on, {split.held_out_rows:,} held out" if split else "",
            "loss": config.loss_function if config.epochs else "",
            "device": device,
            "settings": ", ".join(f"{name}={shown(getattr(config, name))}" for name in _worth_showing(config)),
        }
        lines = {name: text for name, text in lines.items() if text}
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
        epoch, seconds = history.epochs[-1], history.epoch_times[-1]
        recent = history.epoch_times[-10:]
        left = duration((epochs - epoch) * sum(recent) / len(recent))
        took = f"{seconds:.2f} s" if seconds < _MINUTE else duration(seconds)
        losses = {"total": history.total_loss, "rank": history.rank_loss, "pairdist": history.pairdist_loss}
        # Small numbers are long: they have the digits that there is room for.
        for digits, gap in ((4, "  "), (3, "  "), (2, "  "), (2, " ")):
            # With all of its digits a number stays below that of the epoch before.
            texts = {name: f"{values[-1]:#.{digits}g}".rstrip(".") for name, values in losses.items()}
            parts = [f"{name} {text}" for name, text in texts.items()]
            line = gap.join([f"epoch {epoch:>{len(str(epochs))}}/{epochs}", *parts, took, f"ETA {left}"])
            if display_width(line) <= LINE:
                break
        self.log(line)

    def checkpoint(self, path: Path, recall: Recall | None, history: TrainHistory) -> None:
        """Print that a checkpoint was saved, and its recall; that of the start stands among the baselines."""
        if recall is None:
            self.log(f"  saved {path.name}")
        elif history.epochs:
            self.log(f"  saved {path.name}  {versus_baseline(recall, history)}")
        else:
            self.log(f"start {recall.value:.4f}, saved as {path.name}")


def _worth_showing(config: TrainConfig) -> list[str]:
    """Settings that decide this training's result, and others that are not as they are by default."""
    names = []
    for name in applicable(config.as_dict()):
        setting, value = OPTIONS[name], getattr(config, name)
        changed = value != (setting.default if config.images is None else setting.image_default)
        decides = setting.group in _DECIDING and value is not None and value is not False
        if (decides or changed) and name not in _SHOWN_APART:
            names.append(name)
    return names


def summary(history: TrainHistory, folder: Path) -> str:
    """The result of a training in a few lines: what the best checkpoint keeps, and what the training gained."""
    seconds = history.cumulative_time[-1] if history.cumulative_time else 0.0
    lines = [f"{history.status}: {counted(len(history.epochs), 'epoch')} in {seconds:.1f} s of training"]
    if history.recall_history:
        lines += _results(history)
    for dim, values in history.recall_by_dim.items():
        recall = history.recall(values[history.recall_epochs.index(best_epoch(history))])
        lines.append(f"first {counted(int(dim), 'dimension')}: {versus_baseline(recall, history, dim)}")
    return "\n".join([*lines, str(folder)])


def _results(history: TrainHistory) -> list[str]:
    """The recall of best.pt and of the last checkpoint, the baselines', and the gain over the strongest of them."""
    recalls = dict(zip(history.recall_epochs, history.recall_history, strict=True))
    last = history.recall_epochs[-1]
    best = best_epoch(history)
    parts = [f"last epoch {recalls[last]:.4f}"] if best != last and recalls[best] != recalls[last] else []
    parts += [f"{name} {value:.4f}" for name, value in history.baselines().items()]
    where = f"best.pt, epoch {best}: " if any(one.is_best for one in history.evaluations) else ""
    lines = [f"{where}held-out {history.recall(recalls[best])}", *wrapped(f"  {'; '.join(parts)}", indent=2)]
    if not history.epochs:
        return lines
    start = history.start_recall
    # Small sizes of a Matryoshka encoder gain at the cost of its largest, and have lines of their own.
    if start is not None and recalls[best] <= start and (best == 0 or not history.recall_by_dim):
        kept = ", and best.pt is that start" if best == 0 else ""
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
    """A recall, and how far it is from the strongest baseline's: "recall@5 0.8123 (+0.0112 vs start)".

    Args:
        recall: of a checkpoint.
        history: its training's.
        dim: a size of a Matryoshka encoder, as text; None: the whole latents.
    """
    name, value = strongest(history.baselines(dim))
    found = f"recall@{recall.k} {recall.value:.4f}"
    return f"{found} ({recall.value - value:+.4f} vs {name})" if name else found
