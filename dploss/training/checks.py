"""Whether settings fit the rows they are given."""

from dploss.config import TrainConfig
from dploss.data.experiment_data import ExperimentData
from dploss.errors import SettingError
from dploss.text import counted


def check_sizes(config: TrainConfig, input_dim: int, data: ExperimentData) -> None:
    """Refuse settings that cannot work on these rows.

    Args:
        config: the settings.
        input_dim: D, dimensions of a row.
        data: these rows, and queries.

    Raises:
        SettingError: too few dimensions, rows or queries.
    """
    n_train, n_held_out = len(data.train_index), len(data.held_out_index)
    if config.latent_dim > input_dim:
        template = "{latent_dim} {value} is above the {dimensions} of the vectors: choose fewer"
        raise SettingError(template, value=config.latent_dim, dimensions=counted(input_dim, "dimension"))
    if n_train < 3:
        template = "{val_fraction} {value} leaves {n} to train on, 3 are needed"
        raise SettingError(template, value=config.val_fraction, n=counted(n_train, "row"))
    queries = data.queries
    if queries is not None and not len(queries.train_index):
        raise SettingError("{queries}: 2 are needed at least, one to train on and one held out, got 1")
    if queries is not None and queries.database is not None and len(queries.database.rows) <= config.k:
        n_rows = counted(len(queries.database.rows), "row")
        raise SettingError("{database} has {n}, too few for recall@{neighbours}", n=n_rows, neighbours=config.k)
    if config.val_fraction and n_held_out <= config.k and (queries is None or queries.database is None):
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
