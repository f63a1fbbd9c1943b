"""How an encoder is initialised: from PCA or at random, with as much of the norm restored as keeps most neighbours."""

import numpy as np

from dploss.data import MappedRows
from dploss.data.split import evenly_spaced
from dploss.evaluation.held_out import HeldOut
from dploss.evaluation.recall import RecallEvaluator
from dploss.models.asymmetric import AsymmetricEncoder
from dploss.models.autoencoder import ConvAutoencoder
from dploss.models.encoder import DPEncoder
from dploss.models.pca import PCA
from dploss.models.sphering import Sphering

_NORM_POWERS = (0.0, 0.25, 0.5, 0.75, 1.0)
# For encoders with a gain, which keeps norms at their size.
_BEYOND = 1.25
_SPHERING_POWERS = (1.0, 0.5, 0.0)
_ROWS, _QUERIES = 2000, 1000


def initialize(
    encoder: DPEncoder | ConvAutoencoder,
    pca: PCA,
    init: str,
    rows: np.ndarray | MappedRows,
    k: int,
) -> None:
    """Initialise an encoder.

    The power of the norm is chosen by recall on training rows: above 1 for text embeddings, near 0 where few directions
    hold nearly all variance, and 0 for one dimension, where only the sign would be left; of a Matryoshka encoder by the
    recall of all its dimensions.

    Args:
        encoder: fresh from its constructor.
        pca: of the training rows, with the encoder's latent_dim.
        init: "pca" or "random".
        rows: (N, D) float32, the training rows; of more than 2,000 an evenly spaced sample.
        k: neighbours to keep.
    """
    if init == "pca":
        encoder.initialize_from_pca(pca)
    else:
        encoder.standardize(pca)
    if isinstance(encoder, ConvAutoencoder) or encoder.branch is None:
        return
    sample = rows[evenly_spaced(len(rows), _ROWS)]
    # With few rows, all of them are neighbours of each.
    evaluator = RecallEvaluator(max(1, min(k, len(sample) // 10)))

    def recall(power: float) -> float:
        encoder.length_power.fill_(power)
        latents = (encoder.encode(sample, dim=dim) for dim in encoder.dims)
        return sum(evaluator.evaluate(sample, z).value for z in latents)

    powers = _NORM_POWERS if encoder.log_gain is None else (*_NORM_POWERS, _BEYOND)
    power = max(powers, key=recall)
    encoder.length_power.fill_(power)
    if power > 1:
        encoder.keep_mean_norm(sample)


def initialize_sides(
    encoder: AsymmetricEncoder,
    init: str,
    rows: np.ndarray | MappedRows,
    queries: np.ndarray | MappedRows,
    k: int,
) -> PCA:
    """Initialise an encoder of both sides; how far to sphere, and the norm's power, is chosen by what queries find.

    Args:
        encoder: fresh from its constructor.
        init: "pca", of sphered rows, or "random".
        rows: (N, D) float32, the training rows.
        queries: (Q, D) float32, the training queries.
        k: neighbours to keep.

    Returns:
        The PCA of the sphered rows.
    """
    metric = "ip" if encoder.metric == "ip" else "euclidean"
    sample, asking = rows[evenly_spaced(len(rows), _ROWS)], queries[evenly_spaced(len(queries), _QUERIES)]
    # With few rows, all of them are neighbours of each. Queries that are rows of the sample find themselves, whatever
    # is chosen.
    held_out = HeldOut(
        sample, np.arange(len(sample)), max(1, min(k, len(sample) // 10)), encoder.dims, 0, metric, asking
    )

    def recall() -> float:
        return sum(held_out.recall_by_dim(encoder).values())

    def set_start(sphering: Sphering, norm_power: float) -> None:
        if init == "pca":
            encoder.initialize_from_sphering(sphering)
        else:
            encoder.sphere(sphering)
        encoder.length_power.fill_(norm_power)

    norm_powers = (0.0,) if encoder.branch is None else _NORM_POWERS
    found: list[tuple[float, Sphering, float]] = []
    for sphering in Sphering.of_powers(rows, queries, encoder.metric, encoder.latent_dim, _SPHERING_POWERS):
        for norm_power in norm_powers:
            set_start(sphering, norm_power)
            found.append((recall(), sphering, norm_power))
    _, sphering, norm_power = max(found, key=lambda one: one[0])
    set_start(sphering, norm_power)
    return sphering.pca
