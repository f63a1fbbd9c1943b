"""The stored form of a training with --bytes: its code, and its baseline."""

import numpy as np

from dploss.codes.build import fit_code
from dploss.codes.code import Code
from dploss.codes.quantizer import Quantizer
from dploss.config import TrainConfig
from dploss.data import MappedRows
from dploss.data.split import evenly_spaced
from dploss.errors import SettingError
from dploss.evaluation.held_out import HeldOutRows
from dploss.models.encoder import Encoder
from dploss.models.pca import PCA

_FITTED_ROWS = 50_000


def storage_of(config: TrainConfig, encoder: Encoder, rows: np.ndarray | MappedRows) -> Code:
    """Fit the code that `config` asks for to the latents of training rows.

    Args:
        config: its `bytes` is a number.
        encoder: as it is now.
        rows: (N, D) float32, the training rows; of more than 50,000 an evenly spaced sample.

    Raises:
        SettingError: a number of bytes that the code cannot have.
    """
    assert config.bytes is not None
    latents = encoder.encode(rows[evenly_spaced(len(rows), _FITTED_ROWS)])
    try:
        return fit_code(config.code, latents, config.bytes)
    except ValueError as error:
        raise SettingError("{bytes} {value}: {why}", value=config.bytes, why=str(error)) from error


def pca_int8_recall(n_bytes: int, pca: PCA, rows: np.ndarray | MappedRows, held_out: HeldOutRows) -> float:
    """Held-out recall of what people store in as many bytes without any of this: renormalised PCA as int8.

    Args:
        n_bytes: of a stored row.
        pca: of the training rows; int8 takes as many of its components as there are bytes, or all.
        rows: (N, D) float32, the training rows.
        held_out: the rows that recall is measured on.
    """
    dims = min(n_bytes, len(pca.components))
    sample = pca.encode_renormalised(rows[evenly_spaced(len(rows), _FITTED_ROWS)], dims)
    quantizer = Quantizer.fit("int8", sample)

    def stored(rows: np.ndarray) -> np.ndarray:
        return quantizer.dequantize(quantizer.quantize(pca.encode_renormalised(rows, dims)))

    return held_out.recall(stored).value
