"""--code auto: the code whose stored form of the start keeps the most neighbours."""

from dataclasses import replace

from dploss.codes.build import CODES
from dploss.config import TrainConfig
from dploss.data import Vectors, split_rows
from dploss.errors import SettingError
from dploss.evaluation.held_out import HeldOutRows
from dploss.experiments.history import Recall
from dploss.training.progress import Progress
from dploss.training.start import initialize_trainer, make_trainer
from dploss.training.storage import storage_of
from dploss.training.torchrun import is_main_process
from dploss.training.trainer import Trainer


def choose_code(config: TrainConfig, vectors: Vectors) -> TrainConfig:
    """Settle code auto: fit every code that the bytes admit to the start that a training with it would have.

    The start has the latent dimensions that are given, or else as many as that code has bits for. Recall is that of
    the stored form on held-out rows; where none are held out, on training rows, which favours codes with much to fit.

    Args:
        config: the settings; without bytes, or with a code that is named, they stay as they are.
        vectors: all rows.

    Returns:
        The settings with the code that keeps most.

    Raises:
        InputError: settings or rows that no training can have.
    """
    if config.code != "auto" or config.bytes is None:
        return config
    n_rows, input_dim = vectors.rows.shape
    train_index, held_out_index = split_rows(n_rows, config.val_fraction, config.seed)
    kind, index, k = "held-out", held_out_index, config.k
    if not len(held_out_index):
        # With few rows, all of them are neighbours of each.
        kind, index, k = "training", train_index, max(1, min(config.k, len(train_index) // 10))
    rows = HeldOutRows(vectors.rows, index, k, (), config.seed)
    trainers: dict[int, Trainer] = {}
    recalls: dict[str, Recall] = {}
    settings = {name: replace(config, code=name) for name in CODES}  # type: ignore[arg-type]  # its choices
    for name, one in settings.items():
        fitted = one.fitted_to(len(train_index), input_dim)
        if fitted.latent_dim not in trainers:
            trainers[fitted.latent_dim] = make_trainer(fitted, vectors)
            initialize_trainer(trainers[fitted.latent_dim])
        trainer = trainers[fitted.latent_dim]
        try:
            code = storage_of(fitted, trainer.encoder, trainer.train_rows)
        except SettingError:
            # The code cannot have this number of bytes.
            continue
        recalls[name] = rows.stored_recall(trainer.encoder.encode, code)
    # On several machines the last bits may differ.
    chosen = trainer.group.first(max(recalls, key=lambda name: recalls[name].value))
    if is_main_process():
        listed = ", ".join(f"{name} {recall.value:.4f}" for name, recall in recalls.items())
        where = f"recall@{k} on {recalls[chosen].rows:,} {kind} rows"
        Progress(config.quiet).log(f"--code {chosen}: it has the highest {where}: {listed}")
    return settings[chosen]
