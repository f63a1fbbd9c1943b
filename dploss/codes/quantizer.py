"""Quantizer: stores latents as float32, float16, int8 with a scale per dimension, or binary (their signs)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dploss.errors import InputError

DTYPES = ("float32", "float16", "int8", "binary")
_LARGEST = 127


@dataclass(frozen=True)
class Quantizer:
    """A way to store latents.

    Attributes:
        dtype: one of DTYPES.
        dim: d, dimensions of a latent.
        scales: int8: (d,) float32 steps, so that latent = code * scale; else None.
    """

    dtype: str
    dim: int
    scales: np.ndarray | None = None

    @classmethod
    def fit(cls, dtype: str, sample: np.ndarray) -> "Quantizer":
        """Choose the scales so that the largest absolute value of each dimension in the sample is the largest code.

        Args:
            dtype: one of DTYPES.
            sample: (n, d) latents; only int8 and float16 look at their values, for the others n may be 0.

        Raises:
            InputError: float16 has too few digits for values so small, or none for values so large.
        """
        if dtype == "float16":
            limits, largest = np.finfo(np.float16), float(np.abs(sample).max(initial=0))
            if largest > float(limits.max) or 0 < largest < float(limits.tiny):
                raise InputError(f"latents are up to {largest:.3g}, which float16 cannot hold: use float32 or int8")
        if dtype != "int8":
            return cls(dtype, sample.shape[1])
        scales = np.abs(sample).max(axis=0) / _LARGEST
        return cls(dtype, sample.shape[1], np.where(scales > 0, scales, 1).astype(np.float32))

    @property
    def stored(self) -> tuple[np.dtype, int]:
        """The dtype of the codes, and how many of them a latent takes."""
        if self.dtype == "binary":
            return np.dtype(np.uint8), -(-self.dim // 8)
        return np.dtype(self.dtype), self.dim

    @property
    def label(self) -> str:
        """For a person: the dtype."""
        return self.dtype

    def quantize(self, latents: np.ndarray) -> np.ndarray:
        """(n, d) float32 latents -> (n, width) codes, of the dtype and width that `stored` gives.

        Binary codes have a bit per dimension, 1 where the value is above 0, eight in a byte, the first one highest;
        as numpy.packbits and FAISS's binary indexes have them. int8 codes are clipped to -127..127.
        """
        if self.dtype == "binary":
            return np.packbits(latents > 0, axis=1)
        if self.scales is not None:
            return np.clip(np.rint(latents / self.scales), -_LARGEST, _LARGEST).astype(np.int8)
        with np.errstate(over="ignore"):
            return latents.astype(self.dtype, copy=False)

    def dequantize(self, codes: np.ndarray) -> np.ndarray:
        """(n, width) codes -> (n, d) float32.

        Binary codes become -1 and 1, whose Euclidean neighbours are those by Hamming distance.
        """
        if self.dtype == "binary":
            return 2 * np.unpackbits(codes.astype(np.uint8), axis=1, count=self.dim).astype(np.float32) - 1
        return codes.astype(np.float32) * (1 if self.scales is None else self.scales)

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "dtype": self.dtype,
            "dim": self.dim,
            "scales": None if self.scales is None else self.scales.tolist(),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Quantizer":
        """From what `as_dict` gave; further keys are ignored.

        Raises:
            ValueError: the dtype, dim or scales are missing or invalid.
        """
        dtype, dim, scales = stored.get("dtype"), stored.get("dim"), stored.get("scales")
        if dtype not in DTYPES or type(dim) is not int or dim < 1 or (dtype == "int8") != (scales is not None):
            raise ValueError(f"dtype is {dtype!r}, dim {dim!r}")
        if scales is not None:
            try:
                scales = np.asarray(scales, np.float32)
            except OverflowError as error:
                # JSON's integers have no limit.
                raise ValueError(f"scales: {error}") from error
            if scales.shape != (dim,) or not np.isfinite(scales).all():
                raise ValueError(f"scales are not {dim} finite numbers")
        return cls(dtype, dim, scales)
