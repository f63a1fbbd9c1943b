"""Stored forms of others: what is decoded is what is searched; a byte a dimension, and trained indexes of FAISS."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from dploss.codes.code import StoredForm
from dploss.codes.quantizer import Quantizer
from dploss.codes.row_scale import RowScale
from dploss.data.split import evenly_spaced
from dploss.errors import InputError

if TYPE_CHECKING:
    import faiss

_SCALED_ROWS = 10_000
# What RaBitQ stores of a row beside its bits.
RABITQ_FACTORS = np.dtype([("norm", "<f4"), ("scale", "<f4")])


class DecodedForm(StoredForm):
    """Rows that are as near to a query as what they are decoded to.

    Attributes:
        metric: "euclidean", or "ip", the largest inner product is nearest.
    """

    metric = "euclidean"

    def points(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `StoredForm.points`."""
        decoded = self.decode(codes)
        norms = np.square(decoded).sum(axis=1)
        return decoded, norms if self.metric == "euclidean" else np.zeros_like(norms)

    def project(self, queries: np.ndarray) -> np.ndarray:
        """See `StoredForm.project`."""
        return queries


class Int8(DecodedForm):
    """A byte a dimension, with a step for each dimension."""

    def __init__(self, quantizer: Quantizer, metric: str = "euclidean") -> None:
        self.quantizer, self.bytes_per_vector, self.metric = quantizer, quantizer.dim, metric

    def encode(self, latents: np.ndarray) -> np.ndarray:
        """See `StoredForm.encode`."""
        return self.quantizer.quantize(latents).view(np.uint8)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """See `StoredForm.decode`."""
        return self.quantizer.dequantize(codes.view(np.int8))

    @property
    def model_bytes(self) -> int:
        """See `StoredForm.model_bytes`: a float32 step a dimension."""
        return 4 * self.quantizer.dim


class FaissForm(DecodedForm):
    """Rows as a trained index of FAISS encodes and decodes them."""

    def __init__(self, index: "faiss.Index") -> None:
        self.index, self.bytes_per_vector = index, index.sa_code_size()

    def encode(self, latents: np.ndarray) -> np.ndarray:
        """See `StoredForm.encode`."""
        return self.index.sa_encode(contiguous(latents))

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """See `StoredForm.decode`."""
        return self.index.sa_decode(np.ascontiguousarray(codes))

    @property
    def model_bytes(self) -> int:
        """See `StoredForm.model_bytes`."""
        return len(import_faiss().serialize_index(self.index))


class NormRestored(FaissForm):
    """A trained index of centred rows, and a byte that restores the norm, as our own codes have it.

    Args:
        index: trained on rows less `mean`.
        mean: (D,) float32.
        rows: (n, D) training rows, which the scale is fitted to.
    """

    def __init__(self, index: "faiss.Index", mean: np.ndarray, rows: np.ndarray) -> None:
        super().__init__(index)
        self.mean = mean
        sample = (rows - mean)[evenly_spaced(len(rows), _SCALED_ROWS)]
        self.scale = RowScale.fit(sample, sample, super().decode(super().encode(sample)))
        self.bytes_per_vector += 1

    def encode(self, latents: np.ndarray) -> np.ndarray:
        """See `StoredForm.encode`."""
        centred = latents - self.mean
        codes = super().encode(centred)
        byte = self.scale.byte(centred, np.square(centred).sum(axis=1), super().decode(codes))
        return np.column_stack([codes, byte])

    def points(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `StoredForm.points`."""
        decoded, scales = super().decode(codes[:, :-1]), self.scale.read(codes[:, -1])
        biases = self.scale.biases(scales, np.square(decoded).sum(axis=1))
        return decoded * (scales**self.scale.power)[:, None], biases

    def project(self, queries: np.ndarray) -> np.ndarray:
        """See `StoredForm.project`."""
        return queries - self.mean

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """See `StoredForm.decode`."""
        return self.points(codes)[0] + self.mean


class RaBitQ(FaissForm):
    """A bit a dimension, and two floats: the squared norm, and the scale that makes inner products unbiased.

    Args:
        index: a trained IndexRaBitQ of one bit, behind a rotation.
        mean: (d,) float32, of the latents that it was trained on: both are relative to it.
    """

    def __init__(self, index: "faiss.Index", mean: np.ndarray) -> None:
        super().__init__(index)
        self.mean = mean

    def points(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `StoredForm.points`; what is decoded has the scale, so a point is longer than its row."""
        factors = np.ascontiguousarray(codes[:, -RABITQ_FACTORS.itemsize :]).view(RABITQ_FACTORS)
        return self.decode(codes) - self.mean, factors["norm"].ravel()

    def project(self, queries: np.ndarray) -> np.ndarray:
        """See `StoredForm.project`."""
        return queries - self.mean


def import_faiss() -> Any:
    """The module.

    Raises:
        InputError: it is not installed.
    """
    try:
        return import_module("faiss")
    except ImportError as error:
        raise InputError("the peers of a code need FAISS: pip install 'dploss[faiss]'") from error


def contiguous(rows: np.ndarray) -> np.ndarray:
    """The rows, as FAISS wants them."""
    return np.ascontiguousarray(rows, np.float32)
