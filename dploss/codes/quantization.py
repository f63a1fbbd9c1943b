"""How the numbers of a latent are stored: float32, float16, int8 with a scale for each, or their signs alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dploss.data.vectors import read_matrix
from dploss.errors import InputError
from dploss.files.untrusted import read_json

DTYPES = ("float32", "float16", "int8", "binary")
_LARGEST = 127
_TROUBLE = "not what encode.py writes beside its output"


@dataclass(frozen=True)
class Codes:
    """A way to store latents.

    Attributes:
        dtype: one of DTYPES.
        dim: d, numbers in a latent.
        scales: int8: d steps, so that latent = code * scale; else None.
    """

    dtype: str
    dim: int
    scales: np.ndarray | None = None

    @classmethod
    def fitted(cls, dtype: str, sample: np.ndarray) -> "Codes":
        """Choose the scales so that the largest number of the sample, in each place, is the largest code.

        Args:
            dtype: one of DTYPES.
            sample: (n, d) latents.
        """
        if dtype != "int8":
            return cls(dtype, sample.shape[1])
        scales = np.abs(sample).max(axis=0) / _LARGEST
        return cls(dtype, sample.shape[1], np.where(scales > 0, scales, 1).astype(np.float32))

    @property
    def stored(self) -> tuple[np.dtype, int]:
        """The dtype of what is stored of a latent, and how many of them."""
        if self.dtype == "binary":
            return np.dtype(np.uint8), -(-self.dim // 8)
        return np.dtype(self.dtype), self.dim

    def encode(self, latents: np.ndarray) -> np.ndarray:
        """(n, d) float32 latents -> codes.

        Binary codes have a bit for each number, 1 where it is above 0, eight in a byte, the first one highest; as
        numpy.packbits and FAISS's binary indexes have them. int8 codes beyond -127..127 become these.
        """
        if self.dtype == "binary":
            return np.packbits(latents > 0, axis=1)
        if self.dtype == "int8":
            return np.clip(np.rint(latents / self.scales), -_LARGEST, _LARGEST).astype(np.int8)
        with np.errstate(over="ignore"):
            return latents.astype(self.dtype, copy=False)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Codes -> (n, d) float32; of binary ones -1 and 1, whose Euclidean neighbours are those of Hamming."""
        if self.dtype == "binary":
            return 2 * np.unpackbits(codes.astype(np.uint8), axis=1, count=self.dim).astype(np.float32) - 1
        return codes.astype(np.float32) * (1 if self.scales is None else self.scales)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "dtype": self.dtype,
            "dim": self.dim,
            "scales": None if self.scales is None else self.scales.tolist(),
        }

    @classmethod
    def from_dict(cls, about: dict[str, Any]) -> "Codes":
        """From what `as_dict` gave.

        Raises:
            ValueError: something else.
        """
        dtype, dim, scales = about.get("dtype"), about.get("dim"), about.get("scales")
        if dtype not in DTYPES or type(dim) is not int or dim < 1 or (dtype == "int8") != (scales is not None):
            raise ValueError(f"dtype is {dtype!r}, dim {dim!r}")
        if scales is not None:
            try:
                scales = np.asarray(scales, np.float32)
            except OverflowError as error:
                # JSON's whole numbers have no end.
                raise ValueError(f"scales: {error}") from error
            if scales.shape != (dim,) or not np.isfinite(scales).all():
                raise ValueError(f"scales are not {dim} numbers")
        return cls(dtype, dim, scales)


def sidecar(path: Path) -> Path:
    """Where it is written how the codes in `path` are stored, and what made them."""
    return path.with_name(f"{path.name}.json")


def read_origins(path: Path) -> tuple[str, str, str | None]:
    """The checkpoint and the vectors, with their column, that the codes in `path` were made from.

    Raises:
        InputError: no file beside it that says so.
    """
    about = read_json(sidecar(path), _TROUBLE)
    origins = [about.get(name) for name in ("checkpoint", "data", "column")] if isinstance(about, dict) else [None]
    if not all(isinstance(one, str) for one in origins[:2]) or not isinstance(origins[-1], str | None):
        raise InputError(f"{sidecar(path)}: {_TROUBLE}")
    return tuple(origins)


def read_codes(path: Path, rows: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    """Some rows of a file that encode.py wrote.

    Args:
        path: of the codes; the file that tells of them lies beside.
        rows: (n,) row numbers.

    Returns:
        (n, d) float32, and what the file beside says.

    Raises:
        InputError: no such files, or not so many rows.
    """
    about = read_json(sidecar(path), _TROUBLE)
    try:
        codes = Codes.from_dict(about)
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{sidecar(path)}: {_TROUBLE}: {error}") from error
    stored = read_matrix(str(path))
    if stored.shape[1] != codes.stored[1] or (len(rows) and rows.max() >= len(stored)):
        raise InputError(
            f"{path}: it has {stored.shape[0]:,} rows of {stored.shape[1]}, not the codes of these vectors"
        )
    return codes.decode(stored[rows]), about
