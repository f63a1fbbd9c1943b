"""Whether settings fit the rows they are given."""

from dploss.config import TrainConfig
from dploss.errors import SettingError
from dploss.text import counted


def check_sizes(config: TrainConfig, input_dim: int, n_train: int, n_held_out: int) -> None:
    """Refuse settings that cannot work on these rows.

    Args:
        config: the settings.
        input_dim: D, dimensions of a row.
        n_train: rows to train on.
        n_held_out: rows held out.

    Raises:
        SettingError: too few dimensions, or too few rows.
    """
    if config.latent_dim > input_dim:
        template = "{latent_dim} {value} is above the {dimensions} of the vectors: choose fewer"
        raise SettingError(template, value=config.latent_dim, dimensions=counted(input_dim, "dimension"))
    if n_train < 3:
        template = "{val_fraction} {value} leaves {n} to train on, 3 are needed"
        raise SettingError(template, value=config.val_fraction, n=counted(n_train, "row"))
    if config.val_fraction and n_held_out <= config.k:
        raise SettingError(
            "{val_fraction} {value} holds out {n} of {n_rows} rows, recall@{neighbours} needs at least {least}: give a "
            "larger {val_fraction}, a smaller {k}, or 0 to hold out none",
            value=config.val_fraction,
            n=n_held_out,
            n_rows=n_train + n_held_out,
            neighbours=config.k,
            least=config.k + 1,
        )


def doubts(config: TrainConfig, input_dim: int, n_train: int) -> list[str]:
    """What a person should know of settings that work on these rows, but may not do what was meant."""
    lines = []
    if min(config.matryoshka_dims, default=config.latent_dim) == input_dim:
        lines.append(f"--latent-dim {input_dim} is the size of the vectors: nothing gets shorter")
    if not config.val_fraction:
        lines.append("no rows are held out, so recall is not measured")
    if config.batch_size > n_train:
        lines.append(f"--batch-size {config.batch_size} is above the {n_train} training rows: batches of {n_train}")
    return lines
