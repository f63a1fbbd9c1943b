"""How an encoder is initialised: from PCA or at random, with as much of the norm restored as keeps most neighbours."""

import numpy as np

from dploss.data import MappedRows
from dploss.data.split import evenly_spaced
from dploss.evaluation.recall import RecallEvaluator
from dploss.models.autoencoder import ConvAutoencoder
from dploss.models.encoder import DPEncoder
from dploss.models.pca import PCA

_NORM_POWERS = (0.0, 0.25, 0.5, 0.75, 1.0)
_ROWS = 2000


def initialize(
    encoder: DPEncoder | ConvAutoencoder,
    pca: PCA,
    init: str,
    rows: np.ndarray | MappedRows,
    k: int,
) -> None:
    """Initialise an encoder.

    The power of the norm is chosen by recall on training rows: 1 for text embeddings, near 0 where a few directions
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

    encoder.length_power.fill_(max(_NORM_POWERS, key=recall))
