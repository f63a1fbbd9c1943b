"""A training with all that it leaves behind: history, recall, checkpoints, best.pt, logs."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from dploss.codes.build import TRAINED
from dploss.evaluation.held_out import HeldOut
from dploss.experiments.checkpoints import Checkpoint, CheckpointManager
from dploss.experiments.history import TrainHistory
from dploss.experiments.recalls import Recall
from dploss.experiments.record import ExperimentRecord
from dploss.tracking.ranking import AUTO
from dploss.tracking.tracker import BestCheckpointTracker
from dploss.training.checkpoint_evaluator import CheckpointEvaluator
from dploss.training.loggers.run_log import RunLog
from dploss.training.progress import Progress
from dploss.training.storage import storage_of
from dploss.training.trainer import EpochResult, Trainer

if TYPE_CHECKING:
    from dploss.training.reconstruction import Reconstruction


def _never() -> bool:
    return False


class TrainingRun:
    """A training in memory: a Trainer and the history of its epochs. It writes and prints nothing.

    Args:
        trainer: ready to train.
        history: of the epochs that it has finished.
    """

    def __init__(self, trainer: Trainer, history: TrainHistory) -> None:
        self.trainer = trainer
        self.history = history

    def run(self, should_stop: Callable[[], bool] = _never) -> TrainHistory:
        """Train to the last epoch, or until a stop is asked for.

        Args:
            should_stop: asked before every step.

        Returns:
            The history; its status says whether the training was completed or interrupted.

        Raises:
            TrainingError: the loss or the weights became NaN or infinite.
        """
        for result in self.trainer.train(should_stop):
            self._add(result)
        self.history.status = "completed" if self.trainer.is_complete else "interrupted"
        return self.history

    def _add(self, result: EpochResult) -> None:
        self.history.add_epoch(
            result.total_loss, result.rank_loss, result.pairdist_loss, result.learning_rate, result.seconds
        )


class ExperimentRun(TrainingRun):
    """A training that is written to the folder of its experiment, by the main process. Nothing is written before `run`.

    Args:
        trainer: ready to train.
        history: of the epochs that it has finished.
        record: what config.json says.
        manager: of the experiment's folder.
        progress: where messages go.
        held_out: the rows that recall is measured on; may be none.
        metric_name: the metric that ranks the checkpoints; None: they are not evaluated.
        reconstruction: of images; None for vectors.
        resumed_from: the checkpoint that the trainer was loaded from.
    """

    def __init__(
        self,
        trainer: Trainer,
        history: TrainHistory,
        *,
        record: ExperimentRecord,
        manager: CheckpointManager,
        progress: Progress,
        held_out: HeldOut,
        metric_name: str | None,
        reconstruction: "Reconstruction | None",
        resumed_from: Path | None = None,
    ) -> None:
        super().__init__(trainer, history)
        self.record, self.manager, self.progress = record, manager, progress
        self.held_out, self.metric_name, self.reconstruction = held_out, metric_name, reconstruction
        self.config, self.encoder = record.config, trainer.encoder
        self.resumed_from = resumed_from

    @property
    def folder(self) -> Path:
        """checkpoints/<uuid>/ of the experiment."""
        return self.manager.folder

    def run(self, should_stop: Callable[[], bool] = _never) -> TrainHistory:
        """Train, and save at the end of every epoch; see `TrainingRun.run`.

        Raises:
            TrainingError: the loss or the weights became NaN or infinite. The last checkpoints stay as they are.
        """
        self.progress.header(self.record, self.folder, str(self.trainer.device), self.history)
        with self.manager.locked():
            self.manager.create(self.record)
            self.manager.save_history(self.history)
            log = RunLog([])
            try:
                log = RunLog.start(self.folder, self.record, self.history, self.trainer.step, self.progress.warn)
                self._train(should_stop, log)
            except BaseException as error:
                self.history.status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
                raise
            finally:
                self.manager.save_history(self.history)
                log.close(self.history, self.trainer.step)
        return self.history

    def _train(self, should_stop: Callable[[], bool], log: RunLog) -> None:
        evaluator = self._evaluator(log)
        if self.resumed_from is None:
            self._save_start(evaluator, log)
        for result in self.trainer.train(should_stop, partial(self.progress.steps, self.trainer)):
            # Of other weights: a checkpoint has a code that was fitted to its own, or none.
            self.encoder.code = None
            self._add(result)
            self._save_epoch(result, evaluator, log)
        if not self.trainer.is_complete:
            if self.config.bytes is not None:
                self._fit_code()
            self.history.status = "interrupted"
            self.manager.save_latest(self.state())
            return
        if evaluator is not None:
            evaluator.report()
        self.history.status = "completed"

    def _save_start(self, evaluator: CheckpointEvaluator | None, log: RunLog) -> None:
        """Save and evaluate the encoder as it was initialised: the checkpoint that the training is to exceed."""
        if self.trainer.is_complete:
            self.history.status = "completed"
        self._save_checkpoint({}, evaluator, log)
        self.manager.save_latest(self.state())
        if not self.trainer.is_complete:
            self.manager.save_history(self.history)

    def _evaluator(self, log: RunLog) -> CheckpointEvaluator | None:
        if self.metric_name is None:
            return None
        tracker = BestCheckpointTracker(
            self.folder,
            self.metric_name,
            save_top_k=self.config.save_top_k,
            keep_every_n_steps=self.config.keep_every_n_steps,
            min_delta=self.config.min_delta,
            prune=self.config.prune,
            resumed_from=self.resumed_from,
        )
        return CheckpointEvaluator(tracker, self.reconstruction, self.progress, log)

    def _save_epoch(self, result: EpochResult, evaluator: CheckpointEvaluator | None, log: RunLog) -> None:
        epoch = self.trainer.epoch
        losses = {
            "total_loss": result.total_loss,
            "rank_loss": result.rank_loss,
            "pairdist_loss": result.pairdist_loss,
        }
        self.progress.epoch(self.history, self.config.epochs)
        log.epoch(list(losses.values()), result.learning_rate, self.trainer.step)
        last = self.trainer.is_complete
        if last:
            self.history.status = "completed"
        # The first, too, of a code of which training makes another: that is new, while the encoder is nearly the start.
        first = epoch == 1 and self.config.bytes is not None and self.config.code in TRAINED
        if first or last or epoch % self.config.save_interval == 0:
            evaluated = first or last or epoch % (self.config.eval_every * self.config.save_interval or 1) == 0
            self._save_checkpoint(losses, evaluator if evaluated else None, log)
        self.manager.save_latest(self.state())
        if not last:
            # The last history is written when there is nothing else to write: completed means completed.
            self.manager.save_history(self.history)

    def _save_checkpoint(self, losses: Mapping[str, float], evaluator: CheckpointEvaluator | None, log: RunLog) -> None:
        """Keep the encoder as it is now, measure its recall and, with an evaluator, whether it is the best."""
        if self.config.bytes is not None and self.encoder.code is None:
            self._fit_code()
        recall = self._measure_recall(log)
        path = self.manager.save_epoch(self.state())
        self.progress.checkpoint(path, recall, self.history)
        if evaluator is not None:
            of_sizes = [values[-1] for values in self.history.recall_by_dim.values()]
            ranked_by = fmean(of_sizes) if of_sizes else recall.value if recall else None
            error = recall.standard_error if recall and not of_sizes else None
            evaluation = evaluator.evaluate(
                path, self.trainer.step, self.trainer.epoch, losses, ranked_by, error, self._recall_jackknife()
            )
            if evaluation is not None:
                self.history.evaluations.append(evaluation)

    def _fit_code(self) -> None:
        # The start is the closed form alone.
        trained = self.trainer.step > 0
        self.encoder.code = storage_of(self.config, self.trainer, trained)

    def _measure_recall(self, log: RunLog) -> Recall | None:
        if not self.held_out:
            return None
        code = self.encoder.code
        recall = self.held_out.recall(self.encoder, code)
        by_dim = self.held_out.recall_by_dim(self.encoder)
        self.history.add_recall(recall.value, by_dim)
        log.recall(recall, by_dim, self.trainer.step)
        return recall

    def _recall_jackknife(self) -> list[float] | None:
        if self.metric_name != "recall" or self.config.min_delta != AUTO:
            return None
        return self.held_out.jackknife(self.encoder, self.encoder.code)

    def state(self) -> Checkpoint:
        """What a checkpoint holds."""
        state = self.trainer.state_dict()
        code = self.encoder.code
        stored: dict[str, Any] = {} if code is None else {"code": code.state_dict()}
        return {
            "epoch": state["epoch"],
            "step": state["step"],
            "model_state_dict": state["model_state_dict"],
            "optimizer_state_dict": state["optimizer_state_dict"],
            "scheduler_state_dict": state["scheduler_state_dict"],
            "train_history": self.history.as_dict(),
            "config": self.record.as_dict(),
            "rng_state": state["rng_state"],
            "partial_epoch": state["partial_epoch"],
            **stored,  # type: ignore[typeddict-item]
        }
