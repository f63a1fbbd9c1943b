"""The stored form of a training with --bytes: its code, and its baselines."""

from contextlib import suppress
from dataclasses import replace

import numpy as np

from dploss.codes.build import fit_code
from dploss.codes.code import Code
from dploss.codes.pq import ProductCode
from dploss.config import TrainConfig
from dploss.data import MappedRows
from dploss.data.split import evenly_spaced
from dploss.errors import SettingError
from dploss.evaluation.held_out import HeldOut
from dploss.evaluation.peers import Peer, closed_form, pca_int8
from dploss.evaluation.sides import InnerProducts, OneSide, Sides
from dploss.experiments.history import TrainHistory
from dploss.models.pca import PCA
from dploss.training.objective import loss_of
from dploss.training.trainer import Trainer

_FITTED_ROWS, _ASKING = 100_000, 10_000


def storage_of(config: TrainConfig, trainer: Trainer, trained: bool = False) -> Code:
    """Fit the code that `config` asks for to the latents of training rows, as the encoder gives them now.

    Args:
        config: its `bytes` is a number.
        trainer: of the encoder; of more than 100,000 training rows an evenly spaced sample is fitted to.
        trained: what training makes of the code, where there is such a thing.

    Raises:
        SettingError: a number of bytes that the code cannot have.
    """
    assert config.bytes is not None
    encoder, rows, queries = trainer.encoder, trainer.train_rows, None
    latents = encoder.encode(rows[evenly_spaced(len(rows), _FITTED_ROWS)])
    if trainer.queries is not None:
        asking = trainer.asking_rows
        queries = encoder.encode_queries(asking[evenly_spaced(len(asking), _ASKING)])
    try:
        loss = loss_of(config) if trained else None
        return fit_code(config.code, latents, config.bytes, loss, encoder.latent_metric, queries)
    except ValueError as error:
        raise SettingError("{bytes} {value}: {why}", value=config.bytes, why=str(error)) from error


def add_baselines(
    history: TrainHistory, config: TrainConfig, pca: PCA, rows: np.ndarray | MappedRows, held_out: HeldOut
) -> None:
    """Measure what as many bytes hold without any of this: renormalised PCA as int8, and by PQ where bytes allow that.

    Args:
        history: gets their recalls.
        config: its `bytes` is a number.
        pca: of the training rows; int8 takes as many of its components as there are bytes, or all.
        rows: (N, D) float32, the training rows.
        held_out: the rows that recall is measured on.
    """
    assert config.bytes is not None
    metric = config.row_metric
    int8 = pca_int8(rows, config.bytes, pca, metric)
    history.pca_int8_recall = held_out.recall(_sides(pca, int8, config.bytes, metric), int8.code).value
    # With --code pq it would be the start.
    if config.code != ProductCode.name:
        with suppress(ValueError):
            pq = closed_form(ProductCode.name, rows, config.bytes, pca, metric)
            history.pca_pq_recall = held_out.recall(_sides(pca, pq, None, metric), pq.code).value


def _sides(pca: PCA, peer: Peer, dim: int | None, metric: str) -> Sides:
    """Rows as a peer has them, and queries; of PCA's first dimensions, or of all."""
    if metric == "euclidean":
        return OneSide.of(peer.latents)
    return InnerProducts(replace(pca, components=pca.components[:dim]), lambda rows, _: peer.latents(rows))
