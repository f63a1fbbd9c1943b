"""Find the fewest dimensions that reach a recall: train some, and choose the next by PCA's curve."""

import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from dploss.config import TrainConfig
from dploss.data.experiment_data import open_data
from dploss.errors import SettingError
from dploss.evaluation.held_out import HeldOut
from dploss.evaluation.sides import pca_sides
from dploss.experiments.history import TrainHistory
from dploss.experiments.recalls import Recall
from dploss.models.pca import PCA
from dploss.text import counted, text_table
from dploss.training.checks import check_sizes, doubts
from dploss.training.launch import new_experiment
from dploss.training.progress import Progress, strongest, versus_baseline
from dploss.training.run import ExperimentRun

# Before anything is trained: the share of the neighbours that renormalised PCA loses and an encoder preserves.
_FIRST_SHARE = 0.1
_SIZES = 96


def size_step(input_dim: int) -> int:
    """The difference between the sizes that are considered: 8 for 768 dimensions, 4 for 384."""
    return max(1, round(input_dim / _SIZES))


def next_size(
    tried: Mapping[int, float], pca_recall: Callable[[int], float], target: float, step: int, largest: int
) -> int | None:
    """The size to train next.

    At sizes close to each other an encoder preserves about the same share of what renormalised PCA loses. So PCA's
    curve, which costs no training, predicts from each trained size where the encoder's crosses the target.

    Args:
        tried: recall of the sizes that were trained.
        pca_recall: renormalised PCA's recall at a size; it rises with the size.
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
        size: latent dimensions.
        recall: of its best checkpoint, on held-out rows.
        history: of its training.
        folder: of its experiment.
    """

    size: int
    recall: Recall
    history: TrainHistory
    folder: Path

    def __str__(self) -> str:
        return f"{counted(self.size, 'dimension')}: held-out {versus_baseline(self.recall, self.history)}"


class SizeSearch:
    """Trains one size after the other, each a whole experiment, until the smallest that reaches the target is known.

    The trials stay in a hidden folder beside the experiments; the one that is found moves to them.

    Args:
        config: the settings of every trial but its latent_dim.
        target: recall to reach, above 0 to below 1.

    Attributes:
        trials: so far, in the order of training.
        folder: where they are.

    Raises:
        InputError: settings or rows that do not allow a search.
    """

    def __init__(self, config: TrainConfig, target: float) -> None:
        if not 0 < target < 1:
            raise SettingError("{target_recall} must be above 0 and below 1, got {value}", value=target)
        if config.images is not None or config.matryoshka or not config.val_fraction:
            other = "{images}" if config.images else "{matryoshka}" if config.matryoshka else "{val_fraction} 0"
            raise SettingError(f"{{target_recall}} searches one size by recall on held-out rows: leave {other} out")
        self.target = target
        self.trials: list[Trial] = []
        self.folder = Path(config.checkpoints_dir) / f".target-recall-{uuid.uuid4().hex[:8]}"
        self.config = replace(config, checkpoints_dir=str(self.folder))
        self.progress = Progress(config.quiet)

        data = open_data(config)
        n_train, self.input_dim = len(data.train_index), data.vectors.rows.shape[1]
        smallest = replace(config, latent_dim=1)
        check_sizes(smallest, self.input_dim, data)
        for doubt in doubts(smallest, self.input_dim, n_train):
            self.progress.warn(doubt)
        held_out = HeldOut.of(config, data)
        self.progress.log(f"fitting PCA to {n_train:,} x {self.input_dim} training rows ...")
        sides = pca_sides(PCA.fit(data.train_rows, self.input_dim), config.metric, renormalised=True)
        self.pca_recall = cache(lambda size: held_out.recall(sides, dim=size).value)

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
        while True:
            tried = {trial.size: trial.recall.value for trial in self.trials}
            size = next_size(tried, self.pca_recall, self.target, step, largest)
            if size is None:
                break
            self.progress.log(f"training {counted(size, 'dimension')}, for recall {self.target:g}")
            run = new_experiment(replace(self.config, latent_dim=size))
            # One process: it is the main one.
            assert isinstance(run, ExperimentRun)
            history = run.run(should_stop)
            if history.status == "interrupted":
                return None
            recall = history.recall(max(history.recall_history))
            self.trials.append(Trial(size, recall, history, run.folder))
            self.progress.log(f"trained {self.trials[-1]}")
        reaching = [trial for trial in self.trials if trial.recall.value >= self.target]
        if not reaching:
            template = "{target_recall} {target:g}: not even {trial}"
            raise SettingError(template, target=self.target, trial=self.trials[-1])
        found = min(reaching, key=lambda trial: trial.size)
        folder = self.folder.parent / found.folder.name
        os.replace(found.folder, folder)
        self.trials.remove(found)
        self.trials.append(replace(found, folder=folder))
        return found.history

    def lines(self) -> list[str]:
        """The sizes that were trained and what each keeps beside the strongest of its baselines, as a table."""
        if not self.trials:
            return []
        recall = self.trials[0].recall
        rows = []
        for trial in sorted(self.trials, key=lambda one: one.size):
            name, value = strongest(trial.history.baselines())
            reached = "reaches the target" if trial.recall.value >= self.target else ""
            found = trial.recall.value
            rows.append([str(trial.size), f"{found:.4f}", f"{found - value:+.4f}", f"{name} {value:.4f}", reached])
        header = ["dimensions", f"recall@{recall.k}", "gain", "over", ""]
        return [f"held-out recall on {recall.rows:,} rows, target {self.target:g}", *text_table(header, rows, left=0)]
