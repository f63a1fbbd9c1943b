"""Find the smallest size that reaches a recall: train a size, learn from it which to train next."""

import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from dploss.config import TrainConfig
from dploss.data import select, split_rows
from dploss.data.experiment_data import open_rows
from dploss.errors import InputError
from dploss.evaluation.held_out import HeldOutRows
from dploss.experiments.history import Recall, TrainHistory
from dploss.models.pca import PCA
from dploss.training.checks import check_sizes
from dploss.training.launch import new_experiment
from dploss.training.progress import Progress, versus_pca

# Before anything is trained: the share of PCA's lost neighbours that an encoder wins back.
_FIRST_SHARE = 0.25
_SIZES = 96


def size_step(input_dim: int) -> int:
    """The difference between the sizes that are looked at: 8 for 768 numbers, 4 for 384."""
    return max(1, round(input_dim / _SIZES))


def next_size(
    tried: Mapping[int, float], pca_recall: Callable[[int], float], target: float, step: int, largest: int
) -> int | None:
    """The size to train next.

    An encoder wins back about the same share of the neighbours that PCA loses at sizes close to each other. So PCA's
    curve, which costs no training, tells where the encoder's crosses the target, from each size that was trained.

    Args:
        tried: recall of the sizes that were trained.
        pca_recall: PCA's recall at a size; it rises with the size.
        target: recall to reach, above 0 to below 1.
        step: sizes are its multiples.
        largest: the largest size, a multiple of step.

    Returns:
        A size that was not tried, or None: the smallest one of `tried` that reaches the target is the smallest there
        is, or the largest size does not reach it.
    """
    below = max((size for size, recall in tried.items() if recall < target), default=0)
    above = min((size for size, recall in tried.items() if recall >= target and size > below), default=largest + step)
    if above - below <= step:
        return None
    share = _FIRST_SHARE
    if tried:
        nearest = min(tried, key=lambda size: abs(tried[size] - target))
        lost = 1 - pca_recall(nearest)
        share = (tried[nearest] - 1 + lost) / lost if lost else 0.0
    # Kept between the sizes that are known to fail and to reach; the ends close in on each other at every step.
    low, high = below // step + 1, above // step - 1
    while low < high:
        middle = (low + high) // 2
        pca = pca_recall(middle * step)
        if pca + share * (1 - pca) >= target:
            high = middle
        else:
            low = middle + 1
    return low * step


@dataclass(frozen=True)
class Trial:
    """A size that was trained.

    Attributes:
        size: numbers in a latent.
        recall: of its best checkpoint, on held-out rows.
        pca_recall: PCA's at that size.
        folder: of its experiment.
    """

    size: int
    recall: Recall
    pca_recall: float
    folder: Path

    def __str__(self) -> str:
        return f"{self.size} numbers: {versus_pca(self.recall, self.pca_recall)}"


class SizeSearch:
    """Trains one size after the other, each a whole experiment, until the smallest that reaches the target is known.

    The trials are kept in a hidden folder beside the experiments; the one that is found moves to them.

    Args:
        config: the settings of every trial but its latent_dim.
        target: recall to reach, above 0 to below 1.

    Attributes:
        trials: so far, in the order of training.
        folder: where they are.

    Raises:
        InputError: settings or rows that allow no search.
    """

    def __init__(self, config: TrainConfig, target: float) -> None:
        if not 0 < target < 1:
            raise InputError(f"--target-recall must be above 0 and below 1, got {target}")
        if config.images is not None or config.matryoshka or not config.val_fraction:
            other = "--images" if config.images else "--matryoshka" if config.matryoshka else "--val-fraction 0"
            raise InputError(f"--target-recall looks for one size by recall on held-out rows: leave {other} out")
        self.target = target
        self.trials: list[Trial] = []
        self.folder = Path(config.checkpoints_dir) / f".target-recall-{uuid.uuid4().hex[:8]}"
        self.config = replace(config, checkpoints_dir=str(self.folder))
        self.progress = Progress(config.quiet)

        rows = open_rows(config).rows
        training, held_out = split_rows(len(rows), config.val_fraction, config.seed)
        self.input_dim = rows.shape[1]
        check_sizes(replace(config, latent_dim=1), self.input_dim, len(training), len(held_out), self.progress.warn)
        judged = HeldOutRows(rows, held_out, config.k, (), config.seed)
        pca = PCA.fit(select(rows, training), self.input_dim)
        self.pca_recall = cache(lambda size: judged.recall(lambda rows: pca.encode(rows)[:, :size]).value)

    def run(self, should_stop: Callable[[], bool]) -> TrainHistory | None:
        """Train until the size is found.

        Args:
            should_stop: asked before every step.

        Returns:
            The history of the trial that was found, which is now among the experiments as the last of `trials`; None
            if a stop was asked for.

        Raises:
            InputError: no size reaches the target.
            TrainingError: a loss became NaN or infinite.
        """
        step = size_step(self.input_dim)
        largest = self.input_dim // step * step
        histories = {}
        while True:
            tried = {trial.size: trial.recall.value for trial in self.trials}
            size = next_size(tried, self.pca_recall, self.target, step, largest)
            if size is None:
                break
            self.progress.say(f"trying {size} numbers, for recall {self.target:g}")
            trainer = new_experiment(replace(self.config, latent_dim=size))
            history = trainer.run(should_stop)
            if history.status == "interrupted":
                return None
            recall = Recall(max(history.recall_history), history.recall_k, history.recall_rows)
            self.trials.append(Trial(size, recall, history.pca_recall, trainer.manager.folder))
            self.progress.say(f"tried {self.trials[-1]}")
            histories[size] = history
        reaching = [trial for trial in self.trials if trial.recall.value >= self.target]
        if not reaching:
            raise InputError(f"--target-recall {self.target:g}: not even {self.trials[-1]}")
        found = min(reaching, key=lambda trial: trial.size)
        folder = self.folder.parent / found.folder.name
        os.replace(found.folder, folder)
        self.trials.remove(found)
        self.trials.append(replace(found, folder=folder))
        return histories[found.size]
