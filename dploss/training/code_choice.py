"""--code auto: the code whose stored form of the start keeps the most neighbours."""

from dataclasses import replace

from dploss.codes.build import CODES
from dploss.config import TrainConfig
from dploss.data.experiment_data import ExperimentData
from dploss.errors import SettingError
from dploss.evaluation.held_out import HeldOut
from dploss.experiments.recalls import Recall
from dploss.training.progress import Progress
from dploss.training.start import initialize_trainer, make_trainer
from dploss.training.storage import storage_of
from dploss.training.torchrun import is_main_process
from dploss.training.trainer import Trainer


def choose_code(config: TrainConfig, data: ExperimentData) -> TrainConfig:
    """Settle code auto: fit every code that the bytes admit to the start that a training with it would have.

    The start has the latent dimensions that are given, or else as many as that code has bits for. Recall is that of
    the stored form on held-out rows; where none are held out, on training rows, which favours codes with much to fit.

    Args:
        config: the settings; without bytes, or with a code that is named, they stay as they are.
        data: all rows, split.

    Returns:
        The settings with the code that keeps most.

    Raises:
        InputError: settings or rows that no training can have.
    """
    if config.code != "auto" or config.bytes is None:
        return config
    vectors, train_index = data.vectors, data.train_index
    kind, rows = "held-out", HeldOut.of(config, data)
    if not rows:
        # With few rows, all of them are neighbours of each.
        kind, k = "training", max(1, min(config.k, len(train_index) // 10))
        rows = HeldOut(vectors.rows, train_index, k, (), config.seed, config.row_metric)
    trainers: dict[int, Trainer] = {}
    recalls: dict[str, Recall] = {}
    settings = {name: replace(config, code=name) for name in CODES}  # type: ignore[arg-type]  # its choices
    for name, one in settings.items():
        fitted = one.fitted_to(len(train_index), vectors.rows.shape[1])
        if fitted.latent_dim not in trainers:
            trainers[fitted.latent_dim] = make_trainer(fitted, data)
            initialize_trainer(trainers[fitted.latent_dim])
        trainer = trainers[fitted.latent_dim]
        try:
            code = storage_of(fitted, trainer)
        except SettingError:
            # The code cannot have this number of bytes.
            continue
        recalls[name] = rows.recall(trainer.encoder, code)
    # On several machines the last bits may differ.
    chosen = trainer.group.first(max(recalls, key=lambda name: recalls[name].value))
    if is_main_process():
        listed = ", ".join(f"{name} {recall.value:.4f}" for name, recall in recalls.items())
        where = f"recall@{rows.evaluator.k} on {recalls[chosen].rows:,} {kind} rows"
        Progress(config.quiet).log(f"--code {chosen}: it has the highest {where}: {listed}")
    return settings[chosen]
