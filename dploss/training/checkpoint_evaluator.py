"""Evaluates checkpoints as they are saved: by held-out recall and losses, and on images by the reconstructions."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dploss.config import TrainConfig
from dploss.errors import SettingError
from dploss.experiments.history import Evaluation
from dploss.experiments.summary import LOSSES
from dploss.text import did_you_mean, terminal_width
from dploss.tracking.tracker import BestCheckpointTracker
from dploss.training.progress import Progress
from dploss.training.tensorboard import TensorBoardLog
from metrics.table import BUILT_IN, COMPOSITE, JACKKNIFE, error_key

if TYPE_CHECKING:
    from dploss.training.reconstruction import Reconstruction

TRAINING_METRICS = ("recall", *LOSSES)
IMAGE_METRICS = (COMPOSITE, *BUILT_IN)


class CheckpointEvaluator:
    """Measures a checkpoint, hands it to the tracker, and shows what it makes.

    Args:
        tracker: of the experiment's folder.
        reconstruction: of images; None for vectors, or where no images are held out.
        progress: where messages go.
        log: what TensorBoard shows.
    """

    def __init__(
        self,
        tracker: BestCheckpointTracker,
        reconstruction: "Reconstruction | None",
        progress: Progress,
        log: TensorBoardLog,
    ) -> None:
        self.tracker, self.reconstruction, self.progress, self.log = tracker, reconstruction, progress, log

    def evaluate(
        self,
        checkpoint: Path,
        step: int,
        epoch: int,
        losses: Mapping[str, float],
        recall: float | None,
        recall_error: float | None,
        recall_jackknife: list[float] | None,
    ) -> Evaluation | None:
        """Evaluate a checkpoint that was just saved.

        Args:
            checkpoint: its path.
            step: optimizer steps done.
            epoch: finished epochs.
            losses: the epoch's, by name; none of the start, which no epoch led to.
            recall: on held-out rows; of a Matryoshka encoder the mean over its sizes.
            recall_error: its standard error, for the history alone; None where it is not known.
            recall_jackknife: its values without groups of the rows; None where they were not measured. As those of
                other metrics, they are for the tracker alone.

        Returns:
            What was measured; None of the start where checkpoints are ranked by a loss.
        """
        if self.tracker.metric_name in LOSSES and not losses:
            return None
        metrics: Mapping[str, Any] = {**losses, **({} if recall is None else {"recall": recall})}
        if self.reconstruction is not None:
            self.progress.log(f"[Step {step}] Evaluating model performance at step {step}")
            reconstructed, measured = self.reconstruction.evaluate()
            metrics = {**measured, **metrics}
            for tag, image in self.reconstruction.save(reconstructed, checkpoint.parent).items():
                self.log.image(tag, image, step)
        without_groups = {**metrics.get(JACKKNIFE, {}), "recall": recall_jackknife}
        is_best = self.tracker.update(step, epoch, checkpoint, {**metrics, JACKKNIFE: without_groups})
        metrics = {name: value for name, value in metrics.items() if name != JACKKNIFE}
        if is_best and losses:
            self.progress.log(f"🏆 New best checkpoint! Score: {metrics[self.tracker.metric_name]:.4f}")
        self.log.evaluation(metrics, is_best, step)
        measured_error = {} if recall_error is None else {error_key("recall"): recall_error}
        return Evaluation(epoch, step, {**metrics, **measured_error}, is_best)

    def report(self) -> None:
        """Print which checkpoints are the best, and write best_checkpoint_results.json."""
        if self.tracker.best is not None:
            self.progress.log(self.tracker.summary(terminal_width(sys.stderr)))
            self.tracker.export_results()


def tracked_metric(
    config: TrainConfig,
    has_recall: bool,
    reconstruction: "Reconstruction | None",
    warn: Callable[[str], None],
) -> str | None:
    """The metric that ranks the checkpoints: the one that was asked for, if it can be measured.

    It is tried out before anything is trained or written. Where it cannot be measured, held-out recall takes its place,
    or the total loss.

    Args:
        config: the settings.
        has_recall: whether rows are held out.
        reconstruction: of images.
        warn: called with a line where another metric takes the place.

    Returns:
        Its name; None where checkpoints are not evaluated.

    Raises:
        SettingError: a metric that this training cannot have.
        InputError: a file of weights that cannot be used.
    """
    known = TRAINING_METRICS if config.images is None else (*TRAINING_METRICS, *IMAGE_METRICS)
    if config.metric_name not in known:
        template = "{metric_name} must be one of {known}, got {value!r}{meant}"
        meant = did_you_mean(config.metric_name, known)
        raise SettingError(template, known=", ".join(known), value=config.metric_name, meant=meant)
    if not config.eval_every:
        return None
    possible = {*TRAINING_METRICS} - (set() if has_recall else {"recall"})
    left_out: Mapping[str, str] = {}
    if reconstruction is not None:
        _, measured = reconstruction.evaluate()
        possible |= measured.keys()
        left_out = measured["left_out"]
    if config.metric_name in possible:
        return config.metric_name
    instead = "recall" if has_recall else "total_loss"
    why = f" ({left_out[config.metric_name]})" if config.metric_name in left_out else ""
    warn(f"{config.metric_name} cannot be measured{why}: {instead} is tracked instead")
    return instead
