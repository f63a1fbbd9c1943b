"""TransformCode: what codes along principal axes share: bits by use, packed, and a byte that restores the norm."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Self

import numpy as np

from dploss.codes.allocation import allocate_bits
from dploss.codes.code import check_codes, check_latents, checked
from dploss.codes.rotation import RotatedCode, Rotation
from dploss.codes.row_scale import RowScale
from dploss.data.split import evenly_spaced

_MOST_BITS = 8
_UNSCALED = np.ones(256, np.float32)
_FITTED_ROWS = 10_000
# Up to as many queries, each of which makes tables, and from as many rows for each on, sums of table entries are faster
# than decoding: measured.
_FEW_QUERIES, _MANY_ROWS = 6, 1024


class TransformCode(RotatedCode):
    """A byte restores the norm, all others are the bits of the axes that need them.

    An axis with b bits has a state of 8 bits, of which the last b are its own and the others those before them in the
    code; its coordinate is its deviation times tables[b - 1, state].

    Args:
        rotation: to the axes that have bits.
        bits: (p,) uint8 of each axis, 1 to 8; they fill whole bytes.
        deviations: (p,) float32, standard deviation along each axis.
        tables: (8, 256) float32, see `unit_tables`.
        row_scale: None until it is fitted to what the rest decodes.
    """

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
        self._ends = np.cumsum(bits, dtype=np.int64)
        begins = (self._ends - 8) % n_bits
        self._first, self._second, self._shifts = (
            one.astype(np.uint64) for one in (begins // 8, (begins // 8 + 1) % (n_bits // 8), 8 - begins % 8)
        )
        self._axis_tables = np.ascontiguousarray(tables[bits.astype(int) - 1] * deviations[:, None])

    @staticmethod
    @abstractmethod
    def unit_tables() -> tuple[np.ndarray, np.ndarray]:
        """(8, 256) float32 values of the states for a unit Gaussian with 1 to 8 bits, and the (9,) errors with 0 to 8.

        The errors are mean squared ones.
        """

    @abstractmethod
    def _states(self, values: np.ndarray) -> np.ndarray:
        """(n, p) float32 coordinates -> (n, p) uint8 states."""

    @classmethod
    def fit(
        cls, latents: np.ndarray, n_bytes: int, metric: str = "euclidean", queries: np.ndarray | None = None
    ) -> Self:
        """Fit to latents of training rows; a closed form, in seconds.

        Args:
            latents: (n, d) float32.
            n_bytes: stored for each row, 2 to d + 1.
            metric: see `Code`.
            queries: not used.

        Raises:
            ValueError: n_bytes outside its range, or latents that are none.
        """
        check_latents(latents, latents.shape[-1])
        tables, errors = cls.unit_tables()
        rotation, variances = Rotation.fit(latents, metric)
        bits = allocate_bits(variances, 8 * (n_bytes - 1), errors.tolist(), metric)
        # In random order: where axes of few bits stand together, a trellis has few states to choose from (measured).
        used = np.random.RandomState(0).permutation(np.flatnonzero(bits))
        deviations = np.sqrt(np.maximum(variances[used], 1e-12)).astype(np.float32)
        code = cls(rotation.keep(used), bits[used].astype(np.uint8), deviations, tables)
        sample = latents[evenly_spaced(len(latents), _FITTED_ROWS)]
        centred = code.rotation.centre(sample)
        values = code.rotation.rotate(centred)
        code.row_scale = RowScale.fit(centred, values, code.unscaled(code.without_norm(values))[0], metric)
        return code

    def encode(self, latents: np.ndarray) -> np.ndarray:
        """(n, d) latents -> (n, bytes_per_vector) uint8 codes.

        Raises:
            ValueError: latents of another shape, or not finite.
        """
        check_latents(latents, self.dim)
        centred = self.rotation.centre(latents)
        values = self.rotation.rotate(centred)
        codes = self.without_norm(values)
        codes[:, -1] = self._scale.byte(values, np.square(centred).sum(axis=1), self.unscaled(codes)[0])
        return codes

    def _points(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A point has a coordinate along each axis that has bits."""
        values, norms = self._look_up(codes, self._factors)
        return values, self._scale.biases(self._scale.read(codes[:, -1]), norms)

    def products(self, projected: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """See `Code.products`; for a few queries without decoding, by tables of each query."""
        if len(projected) > _FEW_QUERIES or len(codes) < _MANY_ROWS * len(projected):
            return super().products(projected, codes)
        check_codes(codes, self.bytes_per_vector)
        return np.stack([self._products_by_tables(query, codes) for query in projected], axis=1)

    def visited_products(self, projected: np.ndarray, codes: np.ndarray, visits: np.ndarray) -> np.ndarray:
        """See `Code.visited_products`."""
        check_codes(codes, self.bytes_per_vector)
        sizes = visits[:, 2] - visits[:, 1]
        ends = np.cumsum(sizes)
        if len(projected) == 1 and ends[-1] >= _MANY_ROWS:
            visited = np.concatenate([codes[start:end] for _, start, end in visits])
            return self._products_by_tables(projected[0], visited)
        products = np.empty(ends[-1], np.float32)
        self._visit(projected, codes, visits, ends - sizes, products)
        return products

    def _products_by_tables(self, query: np.ndarray, codes: np.ndarray) -> np.ndarray:
        from dploss.codes.product_kernels import add_tables, tables_of

        products = np.empty(len(codes), np.float32)
        added = tables_of(query, self._axis_tables, self._ends, self.bytes_per_vector - 1)
        add_tables(codes, added, self._factors, products)
        return products

    def _visit(
        self, projected: np.ndarray, codes: np.ndarray, visits: np.ndarray, starts: np.ndarray, products: np.ndarray
    ) -> None:
        from dploss.codes.product_kernels import AXES, LANES, visit

        begins = np.flatnonzero(np.diff(visits[:, 1], prepend=-1)).tolist()
        lists = zip(begins, [*begins[1:], len(visits)], strict=True)
        blocks = [(row, begin, end) for begin, end in lists for row in range(visits[begin, 1], visits[begin, 2], LANES)]
        lacking = (0, -len(self.bits) % AXES)
        first, second, shifts = (np.pad(one, lacking) for one in (self._first, self._second, self._shifts))
        tables, asked = np.pad(self._axis_tables, (lacking, (0, 0))), np.pad(projected, ((0, 0), lacking))
        visit(codes, first, second, shifts, tables, self._factors, asked, visits, np.array(blocks), starts, products)

    def arrays(self) -> dict[str, np.ndarray]:
        """See `Code.arrays`."""
        own = {"bits": self.bits, "deviations": self.deviations, "tables": self.tables}
        return {**self.rotation.arrays(), **own, **self._scale.arrays()}

    @classmethod
    def from_arrays(cls, n_bytes: int, arrays: Mapping[str, np.ndarray]) -> Self:
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

    @property
    def _factors(self) -> np.ndarray:
        """(256,) float32, what each value of the byte of the norm multiplies a row by."""
        return self._scale.read(np.arange(256)) ** np.float32(self._scale.power)

    def without_norm(self, values: np.ndarray) -> np.ndarray:
        """(n, p) float32 coordinates along the axes -> (n, bytes_per_vector) codes whose byte of the norm is 0."""
        # Imported late: numba takes a second to import.
        from dploss.codes.transform_kernels import pack_states

        codes = np.zeros((len(values), self.bytes_per_vector), np.uint8)
        pack_states(self._states(values), self.bits.astype(np.int64), codes)
        return codes

    def unscaled(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n, bytes_per_vector) uint8 -> (n, p) float32 coordinates before the norm is restored, and their squares.

        These are summed over the coordinates: (n,) float32.
        """
        return self._look_up(codes, _UNSCALED)

    def _look_up(self, codes: np.ndarray, factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n, p) float32 coordinates, times the factor of each row's last byte, and their (n,) squared norms without.

        Args:
            codes: (n, bytes_per_vector) uint8.
            factors: (256,) float32.
        """
        from dploss.codes.transform_kernels import look_up

        values = np.empty((len(codes), len(self.bits)), np.float32)
        norms = np.empty(len(codes), np.float32)
        codes = np.ascontiguousarray(codes)
        look_up(codes, self._first, self._second, self._shifts, self._axis_tables, factors, values, norms)
        return values, norms
