"""The trellis code: trellis-coded quantisation along the principal axes, bits by use, the norm restored.

Marcellin & Fischer, Trellis coded quantization of memoryless and Gauss-Markov sources, 1990; the state as the last bits
of the code (bitshift trellis) and the tail-biting search as in QTIP, arXiv:2406.11235.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np

from dploss.codes.allocation import allocate_bits
from dploss.codes.code import Code, check_codes, check_latents, checked
from dploss.codes.rotation import Rotation
from dploss.codes.row_scale import RowScale

_TABLES = Path(__file__).with_name("trellis_tables.npz")
_MOST_BITS = 8
# Paths of the search have met after as many bits, a few times those of a state.
_SEAM_BITS = 48
# Errors count for as much as the standard deviation of their axis: measured best (docs/BYTES.md).
_WEIGHT_POWER = 0.5
_FITTED_ROWS = 10_000


@cache
def gaussian_tables() -> tuple[np.ndarray, np.ndarray]:
    """(8, 256) float32 values of the states for a unit Gaussian with 1 to 8 bits, and the (9,) errors with 0 to 8.

    benchmarks/make_trellis_tables.py makes them.
    """
    with np.load(_TABLES) as stored:
        return stored["tables"], stored["errors"]


class TrellisCode(Code):
    """The dense code. A byte restores the norm, all others are the bits of the axes that need them.

    Args:
        rotation: to the axes that have bits.
        bits: (p,) uint8 of each axis, 1 to 8; they fill whole bytes.
        deviations: (p,) float32, standard deviation along each axis.
        tables: (8, 256) float32, see `gaussian_tables`.
        row_scale: None until it is fitted to what the rest decodes.
    """

    name: ClassVar[str] = "trellis"

    def __init__(
        self,
        rotation: Rotation,
        bits: np.ndarray,
        deviations: np.ndarray,
        tables: np.ndarray,
        row_scale: RowScale | None = None,
    ) -> None:
        self.rotation, self.bits, self.deviations, self.tables = rotation, bits, deviations, tables
        self.row_scale = row_scale
        self.dim = len(rotation.mean)
        n_bits = int(bits.sum(dtype=np.int64))
        self.bytes_per_vector = n_bits // 8 + 1
        ends = np.cumsum(bits, dtype=np.int64)
        begins = (ends - 8) % n_bits
        self._first, self._shifts = begins // 8, begins % 8
        self._axis_tables = np.ascontiguousarray(tables[bits.astype(int) - 1] * deviations[:, None])
        least = int(max(np.searchsorted(ends, _SEAM_BITS), np.searchsorted(np.cumsum(bits[::-1]), _SEAM_BITS)))
        self._seam = min(least + 1, len(bits))

    @classmethod
    def fit(cls, latents: np.ndarray, n_bytes: int) -> "TrellisCode":
        """Fit to latents of training rows; a closed form, in seconds.

        Args:
            latents: (n, d) float32.
            n_bytes: stored for each row, 2 to d + 1.

        Raises:
            ValueError: n_bytes outside its range, or latents that are none.
        """
        check_latents(latents, latents.shape[-1])
        tables, errors = gaussian_tables()
        rotation, variances = Rotation.fit(latents)
        bits = allocate_bits(variances, 8 * (n_bytes - 1), errors.tolist())
        # In random order: where axes of few bits stand together, their states have little to choose from (measured).
        used = np.random.RandomState(0).permutation(np.flatnonzero(bits))
        deviations = np.sqrt(np.maximum(variances[used], 1e-12)).astype(np.float32)
        code = cls(rotation.keep(used), bits[used].astype(np.uint8), deviations, tables)
        sample = latents[np.unique(np.linspace(0, len(latents) - 1, _FITTED_ROWS).astype(int))]
        centred = code.rotation.centre(sample)
        values = code.rotation.rotate(centred)
        code.row_scale = RowScale.fit(centred, values, code._decoded(code._encode(values))[0])
        return code

    def encode(self, latents: np.ndarray) -> np.ndarray:
        """(n, d) latents -> (n, bytes_per_vector) uint8 codes.

        Raises:
            ValueError: latents of another shape, or not finite.
        """
        check_latents(latents, self.dim)
        centred = self.rotation.centre(latents)
        values = self.rotation.rotate(centred)
        codes = self._encode(values)
        codes[:, -1] = self._scale.byte(values, np.square(centred).sum(axis=1), self._decoded(codes)[0])
        return codes

    def points(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Code.points`; a point has a coordinate along each axis that has bits."""
        check_codes(codes, self.bytes_per_vector)
        values, norms = self._decoded(codes)
        scales = self._scale.read(codes[:, -1])
        values *= (scales**self._scale.power)[:, None]
        return values, self._scale.biases(scales, norms)

    def project(self, queries: np.ndarray) -> np.ndarray:
        """See `Code.project`."""
        return self.rotation.rotate(self.rotation.centre(queries))

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """See `Code.decode`."""
        return self.rotation.back(self.points(codes)[0])

    def arrays(self) -> dict[str, np.ndarray]:
        """See `Code.arrays`."""
        own = {"bits": self.bits, "deviations": self.deviations, "tables": self.tables}
        return {**self.rotation.arrays(), **own, **self._scale.arrays()}

    @classmethod
    def from_arrays(cls, n_bytes: int, arrays: Mapping[str, np.ndarray]) -> "TrellisCode":
        """See `Code.from_arrays`."""
        rotation = Rotation.from_arrays(arrays)
        axes = rotation.axes.shape[1]
        bits = checked(arrays, "bits", (axes,), np.uint8)
        n_bits = int(bits.sum(dtype=np.int64))
        if bits.min() < 1 or bits.max() > _MOST_BITS or n_bits != 8 * (n_bytes - 1):
            raise ValueError(f"its axes have {bits.min()} to {bits.max()} bits, {n_bits} in all, for {n_bytes} bytes")
        deviations = checked(arrays, "deviations", (axes,), np.float32)
        tables = checked(arrays, "tables", (_MOST_BITS, 256), np.float32)
        return cls(rotation, bits, deviations, tables, RowScale.from_arrays(arrays))

    @property
    def _scale(self) -> RowScale:
        assert self.row_scale is not None
        return self.row_scale

    def _encode(self, values: np.ndarray) -> np.ndarray:
        """(n, p) coordinates -> codes, without the byte of the norm."""
        # Imported late: numba takes a second to import.
        import numba

        from dploss.codes.trellis_kernels import encode_paths, pack_states

        weights = (self.deviations / self.deviations.max()) ** (2 * _WEIGHT_POWER)
        bits = self.bits.astype(np.int64)
        threads = numba.get_num_threads()
        states = encode_paths(values, self._axis_tables, bits, weights.astype(np.float32), self._seam, threads)
        codes = np.zeros((len(values), self.bytes_per_vector), np.uint8)
        pack_states(states, bits, codes)
        return codes

    def _decoded(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n, p) float32 coordinates, before the norm is restored, and their (n,) squared norms."""
        from dploss.codes.trellis_kernels import look_up

        values = np.empty((len(codes), len(self.bits)), np.float32)
        norms = np.empty(len(codes), np.float32)
        ring = np.ascontiguousarray(codes[:, :-1])
        look_up(ring, self._first, self._shifts, self._axis_tables, values, norms)
        return values, norms
