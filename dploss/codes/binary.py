"""The binary code: signs along axes that iterative quantisation turned, read with values fitted to both sides.

Gong & Lazebnik, Iterative quantization: a Procrustean approach to learning binary codes, 2011.
"""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from dploss.codes.code import check_codes, check_latents, checked
from dploss.codes.rotation import RotatedCode, Rotation
from dploss.data.split import evenly_spaced

_ITERATIONS = 20
_FITTED_ROWS = 10_000


class BinaryCode(RotatedCode):
    """A bit for each axis, 1 above the mean; packed as numpy.packbits and FAISS's binary indexes have them.

    Where there are more bits than dimensions the axes are no longer at right angles, but still a tight frame.

    Args:
        rotation: to p = 8 * n_bytes axes.
        values: (2, p) float32, the means of the training rows below and above the mean, along each axis.
    """

    name: ClassVar[str] = "binary"

    def __init__(self, rotation: Rotation, values: np.ndarray) -> None:
        self.rotation, self.values = rotation, values
        self.dim, self.bytes_per_vector = len(rotation.mean), values.shape[1] // 8

    @classmethod
    def byte_range(cls, dim: int) -> range:
        """The numbers of bytes with d dimensions: any, though more than 8 bits a dimension keep hardly more."""
        return range(1, dim + 1)

    @classmethod
    def fit(
        cls, latents: np.ndarray, n_bytes: int, metric: str = "euclidean", queries: np.ndarray | None = None
    ) -> "BinaryCode":
        """Fit to latents of training rows, in seconds.

        Args:
            latents: (n, d) float32.
            n_bytes: stored for each row, at least 1.
            metric: see `Code`.
            queries: not used.

        Raises:
            ValueError: n_bytes outside its range, or latents that are none.
        """
        check_latents(latents, latents.shape[-1])
        if n_bytes < 1:
            raise ValueError(f"{n_bytes} bytes hold no bit")
        principal = Rotation.fit(latents, metric)[0].keep(np.arange(min(8 * n_bytes, latents.shape[1])))
        sample = principal.centre(latents[evenly_spaced(len(latents), _FITTED_ROWS)])
        axes = (principal.axes @ _quantising_turn(principal.rotate(sample), 8 * n_bytes)).astype(np.float32)
        rotation = principal.turned(axes)
        rows = rotation.rotate(sample)
        above = rows > 0
        sides = [np.where(side, rows, 0).sum(axis=0) / np.maximum(side.sum(axis=0), 1) for side in (~above, above)]
        return cls(rotation, np.stack(sides).astype(np.float32))

    def encode(self, latents: np.ndarray) -> np.ndarray:
        """(n, d) latents -> (n, bytes_per_vector) uint8 codes.

        Raises:
            ValueError: latents of another shape, or not finite.
        """
        check_latents(latents, self.dim)
        return np.packbits(self.rotation.rotate(self.rotation.centre(latents)) > 0, axis=1)

    def _points(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A point has a coordinate for each bit."""
        points = np.where(self._bits(codes), self.values[1], self.values[0])
        return points, np.square(points).sum(axis=1)

    def hamming(self, queries: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """How many bits differ: the distance of databases in which the queries are binary too.

        Args:
            queries: (m, bytes_per_vector) uint8 codes.
            codes: (n, bytes_per_vector) uint8 codes.

        Returns:
            (m, n) int32.
        """
        signs, others = (2 * self._bits(some).astype(np.float32) - 1 for some in (queries, codes))
        # Whole numbers up to 2^24 are exact in float32.
        return ((8 * self.bytes_per_vector - signs @ others.T) / 2).astype(np.int32)

    def arrays(self) -> dict[str, np.ndarray]:
        """See `Code.arrays`."""
        return {**self.rotation.arrays(), "values": self.values}

    @classmethod
    def from_arrays(cls, n_bytes: int, arrays: Mapping[str, np.ndarray]) -> "BinaryCode":
        """See `Code.from_arrays`."""
        rotation = Rotation.from_arrays(arrays)
        if rotation.axes.shape[1] != 8 * n_bytes:
            raise ValueError(f"{rotation.axes.shape[1]} axes for {n_bytes} bytes")
        return cls(rotation, checked(arrays, "values", (2, 8 * n_bytes), np.float32))

    def _bits(self, codes: np.ndarray) -> np.ndarray:
        """(n, bytes_per_vector) codes -> (n, p) bool."""
        check_codes(codes, self.bytes_per_vector)
        return np.unpackbits(codes, axis=1).astype(bool)


def _quantising_turn(rows: np.ndarray, n_bits: int) -> np.ndarray:
    """(p, n_bits) matrix that brings (n, p) rows near to corners of a cube, begun at random; an isometry."""
    turn = np.linalg.qr(np.random.RandomState(0).standard_normal((n_bits, rows.shape[1])))[0].T.astype(np.float32)
    for _ in range(_ITERATIONS):
        corners = np.where(rows @ turn > 0, np.float32(1), np.float32(-1))
        left, _, right = np.linalg.svd((rows.T @ corners).astype(np.float64), full_matrices=False)
        turn = (left @ right).astype(np.float32)
    return turn
