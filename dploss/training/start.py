"""The start of a training: the encoder as it is initialised, and the Trainer around it."""

import torch

from dploss.config import TrainConfig
from dploss.data.experiment_data import ExperimentData
from dploss.errors import SettingError
from dploss.models.asymmetric import AsymmetricEncoder
from dploss.models.build import build_encoder
from dploss.models.device import pick_device
from dploss.models.encoder import DPEncoder
from dploss.models.pca import PCA
from dploss.training.checks import check_sizes
from dploss.training.distributed import join_process_group
from dploss.training.initialization import initialize, initialize_sides
from dploss.training.objective import objective_of
from dploss.training.row_checks import check_scale
from dploss.training.torchrun import n_processes
from dploss.training.trainer import Trainer


def make_trainer(config: TrainConfig, data: ExperimentData) -> Trainer:
    """Build what trains on the data; the encoder has random weights.

    Raises:
        SettingError: settings that do not fit the rows, or a device that is not there.
    """
    device = pick_device(config.device)
    if config.images is not None and n_processes() > 1:
        raise SettingError("{images}: an autoencoder of images is trained by one process, without torchrun")
    group = join_process_group(device)
    input_dim = data.vectors.rows.shape[1]
    check_sizes(config, input_dim, data)
    torch.manual_seed(config.seed)
    encoder = build_encoder(config, input_dim).to(device)
    if isinstance(encoder, DPEncoder) and config.matryoshka:
        # The Matryoshka loss restores shares of the norm itself, and its weights were measured without a gain.
        encoder.training_share = 1.0
        encoder.log_gain = None
    queries = None
    if isinstance(encoder, AsymmetricEncoder):
        queries = data.vectors.rows[:0] if data.queries is None else data.queries.train_rows
    return Trainer(
        config, encoder, objective_of(config, encoder), data.vectors.rows, data.train_index, group, queries=queries
    )


def initialize_trainer(trainer: Trainer) -> PCA:
    """Initialise the encoder; returns the PCA of the training rows, a baseline of as many dimensions.

    Raises:
        InputError: the rows differ by less than float32 has digits for.
    """
    config, rows = trainer.config, trainer.train_rows
    pca = PCA.fit(rows, config.latent_dim)
    check_scale(pca.scale)
    encoder, initial = trainer.encoder, pca
    if isinstance(encoder, AsymmetricEncoder):
        initial = initialize_sides(encoder, config.init, rows, trainer.asking_rows, config.k)
    else:
        initialize(encoder, pca, config.init, rows, config.k)
    # Sizes of a Matryoshka encoder lose very different shares: no one step fits them all.
    if config.init == "pca" and config.images is None and not config.matryoshka:
        trainer.fit_steps_to(initial)
    return pca
