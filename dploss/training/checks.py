"""Whether settings fit the rows they are given."""

from collections.abc import Callable

from dploss.config import TrainConfig
from dploss.errors import InputError


def check_sizes(config: TrainConfig, dim: int, train: int, held_out: int, warn: Callable[[str], None]) -> None:
    """Refuse settings that cannot work on these rows; warn of those that hardly can.

    Args:
        config: the settings.
        dim: numbers in a row.
        train: rows to train on.
        held_out: rows held out.
        warn: told in a line.

    Raises:
        InputError: the rows are too short, or too few; the message names the flag.
    """
    if config.latent_dim > dim:
        raise InputError(f"--latent-dim {config.latent_dim} is above the {dim} numbers of a vector: choose fewer")
    if train < 3:
        raise InputError(f"--val-fraction {config.val_fraction} leaves {train} rows to train on, 3 are needed")
    if config.val_fraction and held_out <= config.k:
        raise InputError(
            f"--val-fraction {config.val_fraction} holds out {held_out} of {train + held_out} rows, "
            f"recall@{config.k} needs at least {config.k + 1}: give a larger --val-fraction, a smaller --k, "
            "or 0 to hold out none"
        )
    if min(config.matryoshka_dims, default=config.latent_dim) == dim:
        warn(f"--latent-dim {dim} is as long as the vectors: nothing gets shorter")
    if not config.val_fraction:
        warn("no rows are held out, so recall is not measured")
    if config.batch_size > train:
        warn(f"--batch-size {config.batch_size} is above the {train} training rows: batches of {train}")
