"""Codes that vector databases read: rows of float16, int8 or int4 numbers, whose distances are those of the latents.

A projection on some axes shortens rows, each by what it drops. Scaled to their whole length (as PCA, renormalised) they
have too large products with queries; as they are, too small distances. Between both, rows are scaled by a power of what
is missing, and what their squared length then still lacks is one more number, which is 0 in queries. Which is best
depends on the rows, and on how many there are: the power is chosen by the neighbours that training rows keep. For inner
products rows scaled to their whole length keep most (measured), and no number completes it.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np

from dploss.codes.code import check_latents, checked
from dploss.codes.neighbours import asking, keeping_most, shares_kept
from dploss.codes.rotation import RotatedCode, Rotation
from dploss.data.split import evenly_spaced

_FITTED_ROWS, _STEP_ROWS = 30_000, 2_000
# Of the largest number that occurs: where the clipping of the integers is looked for.
_CLIPPINGS = np.linspace(0.1, 1, 46)
_WIDER_CLIPPINGS = (0.5, 0.65, 0.8, 1.0)
_ASKING = 500
# Of the whole length of a row over that of its kept axes.
_POWERS = (1.0, 0.8, 0.65, 0.5)
_NUMBERS = ("power", "least", "step")


class ElementwiseCode(RotatedCode):
    """Numbers along the first principal axes, one step for all: they are as far apart as the latents.

    A database searches the numbers, by Euclidean distance, for project(queries) / step.

    Args:
        rotation: to p numbers, along the first p principal axes, or p - 1 with a number that completes the length.
        power: how far rows are scaled to their whole length, 0 to 1.
        length_axis: (p,) float32 of length 1, where the number is that completes the length; 0 if there is none.
        least: what every row's squared length lacks at least, in the unit of the rotation; it is not stored.
        step: what a number counts in, in that unit.
    """

    axes_per_byte: ClassVar[float]

    def __init__(self, rotation: Rotation, power: float, length_axis: np.ndarray, least: float, step: float) -> None:
        self.rotation, self.power, self.length_axis, self.least, self.step = rotation, power, length_axis, least, step
        self.dim = len(rotation.mean)
        self.bytes_per_vector = round(rotation.axes.shape[1] / self.axes_per_byte)

    @abstractmethod
    def elements(self, codes: np.ndarray) -> np.ndarray:
        """(n, bytes_per_vector) uint8 codes -> the (n, p) float32 numbers in them."""

    @abstractmethod
    def _codes(self, numbers: np.ndarray) -> np.ndarray:
        """(n, p) float32 numbers, not rounded -> (n, bytes_per_vector) uint8 codes."""

    @classmethod
    def byte_range(cls, dim: int) -> range:
        """The numbers of bytes that it can have with d dimensions: whole numbers, of d axes at most."""
        step = max(1, int(1 / cls.axes_per_byte))
        return range(step, int(dim / cls.axes_per_byte) + 1, step)

    @classmethod
    def fit(
        cls, latents: np.ndarray, n_bytes: int, metric: str = "euclidean", queries: np.ndarray | None = None
    ) -> Self:
        """Fit to latents of training rows.

        Args:
            latents: (n, d) float32.
            n_bytes: stored for each row; they hold whole numbers, of d axes at most.
            metric: see `Code`.
            queries: see `Code.fit`.

        Raises:
            ValueError: n_bytes outside its range, or latents that are none.
        """
        dim = latents.shape[-1]
        check_latents(latents, dim)
        axes = n_bytes * cls.axes_per_byte
        if n_bytes not in cls.byte_range(dim):
            raise ValueError(f"{n_bytes} bytes of {cls.name} are {axes:g} numbers, of {dim} dimensions")
        principal, count = Rotation.fit(latents, metric)[0], int(axes)
        sample = latents[evenly_spaced(len(latents), _FITTED_ROWS)]
        powers = _POWERS[:1] if count in (1, dim) or metric == "ip" else _POWERS
        codes = {power: cls._unfitted(principal, count, power) for power in powers}
        asked = sample[asking(len(sample))]

        def scores(power: float) -> np.ndarray:
            rows = codes[power]._rows(sample)
            return np.square(rows).sum(axis=1) - 2 * codes[power].project(asked) @ rows.T

        code = codes[keeping_most(list(codes), principal.centre(sample), scores)]
        if code.length_axis.any():
            code.least = float(code._scaled(sample)[1].min())
        code._fit_step(sample, latents if queries is None else queries)
        return code

    def _fit_step(self, latents: np.ndarray, queries: np.ndarray) -> None:
        self.step = self._best_step(self._rows(latents[evenly_spaced(len(latents), _STEP_ROWS)]))

    @classmethod
    def _unfitted(cls, principal: Rotation, count: int, power: float) -> Self:
        """The code of a power, with a step of 1; `principal` has all d axes."""
        turn, kept = cls._turn(count), count if power == 1 else count - 1
        axes = np.pad(principal.axes[:, :kept], ((0, 0), (0, count - kept))) @ turn
        length_axis = turn[-1].astype(np.float32) * (kept < count)
        return cls(principal.turned(axes.astype(np.float32)), power, length_axis, 0.0, 1.0)

    @staticmethod
    def _turn(count: int) -> np.ndarray:
        """(count, count) orthogonal matrix between what is kept of a row and its numbers."""
        return np.eye(count)

    @classmethod
    @abstractmethod
    def _best_step(cls, rows: np.ndarray) -> float:
        """The step for (n, p) rows."""

    def _scaled(self, latents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n, p) float32 rows, scaled by the power, and (n,) what their squared lengths lack."""
        centred = self.rotation.centre(latents)
        rows = self.rotation.rotate(centred)
        whole, kept = (np.square(part).sum(axis=1) for part in (centred, rows))
        rows *= np.divide(whole, kept, out=np.ones_like(kept), where=kept > 0)[:, None] ** np.float32(self.power / 2)
        return rows, (whole - np.square(rows).sum(axis=1)).clip(min=0)

    def _rows(self, latents: np.ndarray) -> np.ndarray:
        """(n, d) latents -> (n, p) float32, what is stored of them before it is rounded."""
        rows, lacking = self._scaled(latents)
        return rows + np.sqrt((lacking - np.float32(self.least)).clip(min=0))[:, None] * self.length_axis

    def encode(self, latents: np.ndarray) -> np.ndarray:
        """(n, d) latents -> (n, bytes_per_vector) uint8 codes.

        Raises:
            ValueError: latents of another shape, or not finite.
        """
        check_latents(latents, self.dim)
        return self._codes(self._rows(latents) / np.float32(self.step))

    def _points(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A point has a coordinate for each number."""
        points = self.elements(codes) * np.float32(self.step)
        return points, np.square(points).sum(axis=1) + np.float32(self.least)

    def arrays(self) -> dict[str, np.ndarray]:
        """See `Code.arrays`."""
        numbers = {name: np.array(getattr(self, name)) for name in _NUMBERS}
        return {**self.rotation.arrays(), "length_axis": self.length_axis, **numbers}

    @classmethod
    def from_arrays(cls, n_bytes: int, arrays: Mapping[str, np.ndarray]) -> Self:
        """See `Code.from_arrays`."""
        rotation = Rotation.from_arrays(arrays)
        count = rotation.axes.shape[1]
        if not {"power", "least", "length_axis"} & set(arrays):
            # Older versions scaled all rows to their whole length.
            whole = {"power": np.array(1.0), "least": np.array(0.0), "length_axis": np.zeros(count, np.float32)}
            arrays = {**arrays, **whole}
        power, least, step = (float(checked(arrays, name, (), np.float64)) for name in _NUMBERS)
        usable = 0 <= power <= 1 and 0 <= least < 1e30 and 1e-30 < step < 1e30
        if count != n_bytes * cls.axes_per_byte or not usable:
            raise ValueError(f"{count} numbers in {n_bytes} bytes, power {power}, least {least}, step {step}")
        return cls(rotation, power, checked(arrays, "length_axis", (count,), np.float32), least, step)


class Float16Code(ElementwiseCode):
    """float16, little-endian: code.view("<f2")."""

    name: ClassVar[str] = "float16"
    axes_per_byte: ClassVar[float] = 0.5

    @classmethod
    def _best_step(cls, rows: np.ndarray) -> float:
        return 1.0

    def _codes(self, numbers: np.ndarray) -> np.ndarray:
        most = np.finfo(np.float16).max
        return numbers.clip(-most, most).astype("<f2").view(np.uint8)

    def elements(self, codes: np.ndarray) -> np.ndarray:
        """See `ElementwiseCode.elements`; NaN and infinite codes, which `encode` does not make, are 0."""
        return np.nan_to_num(np.ascontiguousarray(codes).view("<f2").astype(np.float32), posinf=0, neginf=0)


class _IntegersCode(ElementwiseCode):
    """Integers from -most - 1 to most, along axes that a random rotation gave like variances.

    The step is the one with the least squared error, which clips the largest numbers. For inner products it may be
    larger: rows of large norms, which clipping shortens, are those that queries find.
    """

    most: ClassVar[int]

    def _fit_step(self, latents: np.ndarray, queries: np.ndarray) -> None:
        super()._fit_step(latents, queries)
        if self.metric == "euclidean":
            return
        sample = latents[evenly_spaced(len(latents), _FITTED_ROWS)]
        asked = queries[evenly_spaced(len(queries), _ASKING)]
        rows, projected = self._rows(sample), self.project(asked)
        unclipped = float(np.abs(rows).max()) / self.most
        steps = [self.step, *(share * unclipped for share in _WIDER_CLIPPINGS if share * unclipped > self.step)]
        scores = (-projected @ (self._rounded(rows / np.float32(step)) * np.float32(step)).T for step in steps)
        kept = shares_kept(self.rotation.centre(sample), self.rotation.centre_queries(asked), scores)
        self.step = steps[int(np.argmax(kept))]

    @staticmethod
    def _turn(count: int) -> np.ndarray:
        return np.linalg.qr(np.random.RandomState(0).standard_normal((count, count)))[0]

    @classmethod
    def _best_step(cls, rows: np.ndarray) -> float:
        steps = (float(np.abs(rows).max()) or 1.0) / cls.most * _CLIPPINGS
        return min(steps.tolist(), key=lambda step: cls._squared_error(rows, step))

    @classmethod
    def _squared_error(cls, rows: np.ndarray, step: float) -> float:
        return float(np.square(cls._rounded(rows / np.float32(step)) * np.float32(step) - rows).mean())

    @classmethod
    def _rounded(cls, numbers: np.ndarray) -> np.ndarray:
        return np.rint(numbers).clip(-cls.most - 1, cls.most)


class Int8Code(_IntegersCode):
    """int8, two's complement: code.view(np.int8)."""

    name: ClassVar[str] = "int8"
    axes_per_byte: ClassVar[float] = 1
    most: ClassVar[int] = 127

    def _codes(self, numbers: np.ndarray) -> np.ndarray:
        return self._rounded(numbers).astype(np.int8).view(np.uint8)

    def elements(self, codes: np.ndarray) -> np.ndarray:
        """See `ElementwiseCode.elements`."""
        return codes.view(np.int8).astype(np.float32)


class Int4Code(_IntegersCode):
    """int4, two's complement, two in a byte: the first in its low half (as ONNX has them)."""

    name: ClassVar[str] = "int4"
    axes_per_byte: ClassVar[float] = 2
    most: ClassVar[int] = 7

    def _codes(self, numbers: np.ndarray) -> np.ndarray:
        halves = self._rounded(numbers).astype(np.int8).view(np.uint8) & 15
        return halves[:, ::2] | (halves[:, 1::2] << 4)

    def elements(self, codes: np.ndarray) -> np.ndarray:
        """See `ElementwiseCode.elements`."""
        halves = np.stack([codes << 4, codes & 0xF0], axis=2).reshape(len(codes), 2 * codes.shape[1])
        return (halves.view(np.int8) >> 4).astype(np.float32)
