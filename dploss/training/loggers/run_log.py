"""RunLog: everything that a training logs, to all of its loggers."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from dploss.errors import InputError, SettingError
from dploss.experiments.history import TrainHistory
from dploss.experiments.recalls import Recall
from dploss.experiments.record import ExperimentRecord
from dploss.text import metric_title
from dploss.training.loggers.logger import Guarded, Logger
from dploss.training.loggers.tensorboard import TensorBoardLog
from dploss.training.progress import best_epoch
from metrics.table import ERROR_SUFFIX

if TYPE_CHECKING:
    from dploss.config import TrainConfig

# Of --log-to: the module here, and the class in it.
_SERVICES = {"wandb": ("wandb_run", "WandbRun"), "mlflow": ("mlflow_run", "MlflowRun")}


def check_installed(config: "TrainConfig") -> None:
    """Refuse a log_to whose package is missing, before anything is read or trained.

    Raises:
        SettingError: it is.
    """
    if config.log_to == "none":
        return
    spec = find_spec(config.log_to)
    # A folder of that name, in which wandb keeps its files, has no origin.
    if spec is None or spec.origin is None:
        template = "{log_to} {name} needs a package that is not installed: pip install 'dploss[{name}]'"
        raise SettingError(template, name=config.log_to)


class RunLog:
    """Logs a training.

    Args:
        loggers: that take it; may be none.
    """

    def __init__(self, loggers: Sequence[Logger]) -> None:
        self._loggers = loggers

    @classmethod
    def start(
        cls, folder: Path, record: ExperimentRecord, history: TrainHistory, step: int, warn: Callable[[str], None]
    ) -> "RunLog":
        """The log of an experiment: TensorBoard's unless that is off, and that of `log_to`.

        Args:
            folder: of the experiment.
            record: what config.json says.
            history: so far.
            step: where the training starts, or resumes.
            warn: called with a line when a logger fails later on.

        Raises:
            InputError: the service of `log_to` cannot be logged to.
        """
        config, loggers = record.config, list[Logger]()
        if config.log_to != "none":
            module, name = _SERVICES[config.log_to]
            try:
                service = getattr(import_module(f"dploss.training.loggers.{module}"), name)
                loggers.append(Guarded(service(folder, record), config.log_to, warn))
            except Exception as error:
                # A key that is missing, a server out of reach, a store of another version: of any kind.
                raise InputError(f"cannot log to {config.log_to}: {str(error) or type(error).__name__}") from error
        if not config.no_tensorboard:
            loggers.append(TensorBoardLog(folder, step))
        log = cls(loggers)
        if not history.recall_epochs:
            log.scalars({f"Baseline/{_tag(name)}": value for name, value in history.baselines().items()}, 0)
        return log

    def scalars(self, values: Mapping[str, float | None], step: int) -> None:
        """Log numbers by their tags; None is left out."""
        measured = {tag: value for tag, value in values.items() if value is not None}
        for logger in self._loggers if measured else ():
            logger.scalars(measured, step)

    def epoch(self, losses: Sequence[float], learning_rate: float, step: int) -> None:
        """Log an epoch's total, rank and pair distance loss, and its last learning rate."""
        tags = ("Loss/Total", "Loss/Rank", "Loss/Pair_Distance", "Learning_Rate")
        self.scalars(dict(zip(tags, (*losses, learning_rate), strict=True)), step)

    def recall(self, recall: Recall, by_dim: Mapping[int, float], step: int) -> None:
        """Log a recall on held-out rows with its standard error, and of a Matryoshka encoder that of each size."""
        tag = f"Recall/At_{recall.k}"
        sizes = {f"{tag}_{dim}_dims": value for dim, value in by_dim.items()}
        self.scalars({tag: recall.value, f"{tag}_Standard_Error": recall.standard_error, **sizes}, step)

    def evaluation(self, metrics: Mapping[str, Any], is_best: bool, step: int) -> None:
        """Log what was measured of a checkpoint; standard errors are in its history."""
        measured = {
            f"Evaluation/{_tag(metric_title(name))}": value
            for name, value in metrics.items()
            if isinstance(value, float) and not name.endswith(ERROR_SUFFIX)
        }
        self.scalars({**measured, "Evaluation/IsBest": float(is_best)}, step)

    def image(self, tag: str, image: Image.Image, step: int) -> None:
        """Log an image."""
        for logger in self._loggers:
            logger.image(tag, image, step)

    def close(self, history: TrainHistory, step: int) -> None:
        """Log the result, and end."""
        for logger in self._loggers:
            logger.close({"step": step, **result_of(history)})


def result_of(history: TrainHistory) -> dict[str, float | str]:
    """The result of a training: its status, its last loss, the recall of its best checkpoint and of its baselines."""
    result: dict[str, float | str] = {"status": history.status, "epochs": len(history.epochs)}
    if history.epochs:
        result |= {"total_loss": history.total_loss[-1], "seconds": history.cumulative_time[-1]}
    if history.recall_history:
        best = best_epoch(history)
        recall = history.recall_history[history.recall_epochs.index(best)]
        baselines = history.baselines()
        result |= {"best_epoch": best, "best_recall": recall}
        result |= {f"recall_of_{_tag(name)}": value for name, value in baselines.items()}
        if baselines:
            result["gain_over_baselines"] = recall - max(baselines.values())
    return result


def _tag(name: str) -> str:
    """A name as a tag: PCA, renormalised -> PCA_renormalised."""
    return name.replace(",", "").replace(" ", "_")
