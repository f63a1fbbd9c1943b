"""Where a training starts: at PCA, or at random, with as much of the vectors' lengths as keeps most neighbours."""

from collections.abc import Sequence

import numpy as np

from dploss.data import MappedRows
from dploss.evaluation.recall import RecallEvaluator
from dploss.models.autoencoder import ConvAutoencoder
from dploss.models.encoder import DPEncoder
from dploss.models.pca import PCA

_LENGTH_POWERS = (0.0, 0.25, 0.5, 0.75, 1.0)
_ROWS = 2000


def start(
    encoder: DPEncoder | ConvAutoencoder,
    pca: PCA,
    init: str,
    rows: np.ndarray | MappedRows,
    k: int,
    dims: Sequence[int] = (),
) -> None:
    """Bring an encoder to its start.

    How far lengths are given back is chosen by recall on training rows: wholly for text embeddings, hardly at all
    where a few directions hold nearly everything, and not in one dimension, where only the sign would be left.

    Args:
        encoder: fresh from its constructor.
        pca: of the training rows, with the encoder's latent_dim.
        init: "pca" or "random".
        rows: (N, D) float32, the training rows; 2,000 of them, evenly spaced, stand for more.
        k: neighbours to keep.
        dims: of a Matryoshka encoder, its sizes, which are all heard.
    """
    if init == "pca":
        encoder.start_at(pca)
    else:
        encoder.standardize(pca)
    if isinstance(encoder, ConvAutoencoder) or encoder.branch is None:
        return
    sample = rows[np.linspace(0, len(rows) - 1, min(len(rows), _ROWS)).astype(int)]
    # With few rows, all of them are neighbours of each.
    evaluator = RecallEvaluator(max(1, min(k, len(sample) // 10)))

    def kept(power: float) -> float:
        encoder.length_power.fill_(power)
        codes = (encoder.encode(sample, dim=dim) for dim in dims or (encoder.latent_dim,))
        return sum(evaluator.evaluate(sample, code).value for code in codes)

    encoder.length_power.fill_(max(_LENGTH_POWERS, key=kept))
